"""A checkpoint that the fine-tuning wrote, in coqui-tts itself: it loads there and says the same.

Nothing of ours is between the file and stock's own loader.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fit_runs import prepared_clips, run_fit, setup_of
from toy import MODEL_ARGS, build_bundle, voice

from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, DecodeOptions, SegmentDone, SegmentJob
from app.models.bundles import find_bundle, read_folder
from app.models.loading import LoadedModel, load_model
from app.settings import load_settings

TEXTS = ("hello there.", "the wind rose before the morning came, and nobody heard it!")
#: Stock keeps the tensors of its inference beside those of the file.
_MADE_BY_STOCK = ("gpt.gpt_inference.", "gpt.gpt.wte.")


@pytest.fixture(scope="module", params=[0, 4], ids=["all weights", "adapters"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns what two epochs on twelve clips leave, with stock's own vocoder in it."""
    folder = tmp_path_factory.mktemp("run")
    bundle = read_folder(build_bundle(folder / "base", MODEL_ARGS, None), "base")
    clips = prepared_clips(folder / "clips", bundle)
    # at the rate of the other tests two epochs make it say one code for ever
    setup = setup_of(bundle, clips, folder / "output", lora_rank=request.param, learning_rate=1e-4)
    result = run_fit(setup)
    assert result.checkpoint is not None
    return result.checkpoint


@pytest.fixture(scope="module")
def stock(checkpoint: Path) -> Any:
    """Returns stock's model, loaded as its users do."""
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.models.xtts import Xtts

    config = XttsConfig()
    config.load_json(str(checkpoint.parent / "config.json"))
    model = Xtts(config)
    model.load_checkpoint(
        config,
        checkpoint_path=str(checkpoint),
        vocab_path=str(checkpoint.parent / "vocab.json"),
        use_deepspeed=False,
    )
    return model


@pytest.fixture(scope="module")
def ours(checkpoint: Path) -> LoadedModel:
    """Returns our engine's model of the same file."""
    return load_model(find_bundle(str(checkpoint), load_settings()))


def speak_ours(ours: LoadedModel, stock: Any, text: str, number: int) -> tuple[list[int], Any]:
    token_ids = tuple(stock.tokenizer.encode(text, lang="en"))
    scheduler = Scheduler(ours.speech)
    options = DecodeOptions(greedy=True, repetition_penalty=2.0)
    scheduler.submit(SegmentJob("a", token_ids, voice(number), options))
    events = []
    while not scheduler.is_idle:
        events += scheduler.step()
    done = events[-1]
    assert isinstance(done, SegmentDone)
    samples = np.concatenate([e.samples for e in events if isinstance(e, AudioChunk)])
    return list(done.tokens), samples


def test_stock_has_every_weight_of_the_file(checkpoint: Path, stock: Any) -> None:
    content = torch.load(checkpoint, weights_only=True)
    loaded = {
        name: value
        for name, value in stock.state_dict().items()
        if not name.startswith(_MADE_BY_STOCK)
    }
    assert loaded.keys() == content["model"].keys()
    for name, value in content["model"].items():
        assert torch.equal(loaded[name], value.to(loaded[name].dtype)), name


def test_training_moved_what_speaks(checkpoint: Path) -> None:
    base = torch.load(checkpoint.parents[2] / "base" / "model.pth", weights_only=True)["model"]
    trained = torch.load(checkpoint, weights_only=True)["model"]
    moved = {name for name, value in base.items() if not torch.equal(value, trained[name])}
    assert "gpt.gpt.h.0.attn.c_attn.weight" in moved
    assert all(name.startswith("gpt.") for name in moved)


@pytest.mark.parametrize("number", [0, 1])
def test_stock_says_the_same(ours: LoadedModel, stock: Any, number: int) -> None:
    codes = []
    generate = stock.gpt.generate

    def generate_and_keep(*args: Any, **kwargs: Any) -> Any:
        codes.append(generate(*args, **kwargs))
        return codes[-1]

    stock.gpt.generate = generate_and_keep
    try:
        conditioning = voice(number)
        wave = stock.inference(
            TEXTS[number],
            "en",
            conditioning.gpt_latents,
            conditioning.speaker_embedding,
            do_sample=False,
            repetition_penalty=2.0,
        )["wav"]
    finally:
        stock.gpt.generate = generate
    tokens, samples = speak_ours(ours, stock, TEXTS[number], number)
    assert tokens == codes[0][0].tolist()
    assert len(set(tokens)) > 5, "a model that repeats itself would show nothing"
    assert samples.shape == wave.shape
    assert np.abs(wave).max() > 1e-3, "silence would show nothing"
    assert np.abs(samples - wave).max() <= 1e-3 * np.abs(wave).max()
