"""Loading whole models: every layout gives the same model, and every mismatch is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from toy import VOICES, toy_folder, toy_model, voice

from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, DecodeOptions, SegmentJob, SpeechModel
from app.errors import ModelFileError
from app.models.bundles import builtin_folder, find_bundle, read_folder
from app.models.loading import LoadedModel, load_model
from app.models.manifest import hash_files, read_manifest, write_manifest
from app.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the toy, a stock coqui folder, that a test may change."""
    return Path(shutil.copytree(toy_folder(), tmp_path / "toy"))


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """A copy of the built-in bundle that a test may change."""
    return Path(shutil.copytree(builtin_folder(), tmp_path / "own"))


def load(path: Path) -> LoadedModel:
    return load_model(find_bundle(str(path), Settings()))


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def read_toy_state() -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(toy_folder() / "model.pth", weights_only=True)
    return dict(state["model"])


def speak(model: SpeechModel) -> NDArray[np.float32]:
    """Returns what a model says greedily: it takes every weight of GPT and vocoder."""
    scheduler = Scheduler(model)
    options = DecodeOptions(greedy=True, repetition_penalty=2.0, max_tokens=8)
    scheduler.submit(SegmentJob("one", (18, 19, 20), voice(0), options))
    chunks = []
    while not scheduler.is_idle:
        chunks += [e.samples for e in scheduler.step() if isinstance(e, AudioChunk)]
    return np.concatenate(chunks)


def as_stock_folder(folder: Path) -> Path:
    return folder


def as_safetensors_folder(folder: Path) -> Path:
    (folder / "model.pth").unlink()
    save_file(read_toy_state(), folder / "model.safetensors")
    return folder


def as_coqui_trainer_checkpoint(folder: Path) -> Path:
    """As `trainer.io.save_model` writes it: prefixed, with the DVAE and the optimizer beside."""
    model = {f"xtts.{name}": value for name, value in read_toy_state().items()}
    model |= {
        "dvae.codebook.embed": torch.ones(4, 4),
        "torch_mel_spectrogram_dvae.x": torch.ones(2),
    }
    content = {
        "config": {"model": "xtts"},
        "model": model,
        "optimizer": [{"state": {}, "param_groups": [{"lr": 5e-6}]}],
        "step": 10,
        "model_loss": {"train_loss": 1.5, "eval_loss": None},
    }
    (folder / "model.pth").unlink()
    torch.save(content, folder / "best_model_10.pth")
    return folder / "best_model_10.pth"


def as_our_checkpoint(folder: Path) -> Path:
    (folder / "model.pth").unlink()
    (folder / "checkpoints").mkdir()
    path = folder / "checkpoints" / "checkpoint_epoch_2.pt"
    torch.save({"model": read_toy_state(), "epoch": 2}, path)
    return path


@pytest.mark.parametrize(
    "lay_out",
    [as_stock_folder, as_safetensors_folder, as_coqui_trainer_checkpoint, as_our_checkpoint],
)
def test_every_layout_gives_the_same_model(folder: Path, lay_out: Callable[[Path], Path]) -> None:
    model = load(lay_out(folder))

    np.testing.assert_array_equal(speak(model.speech), speak(toy_model()))
    assert model.conditioner.identity == load(toy_folder()).conditioner.identity
    assert tuple(model.voices) == VOICES
    assert model.default_voice == VOICES[0]
    speakers = torch.load(folder / "speakers_xtts.pth", weights_only=True)
    for name, entry in speakers.items():
        assert torch.equal(model.voices[name].gpt_latents, entry["gpt_cond_latent"])
        assert torch.equal(model.voices[name].speaker_embedding, entry["speaker_embedding"])
    assert model.sampling.temperature == 0.85
    assert model.sample_rate == 24000


def test_half_precision_is_widened(folder: Path) -> None:
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in read_toy_state().items()
    }
    torch.save({"model": half}, folder / "model.pth")
    model = load(folder)
    assert model.speech.gpt.dtype == model.speech.vocoder.dtype == torch.float32
    expected = half["gpt.mel_embedding.weight"].float()
    assert torch.equal(model.speech.gpt.audio_embedding, expected)
    clip = np.sin(np.arange(24000) / 20).astype(np.float32)
    assert model.conditioner.encode(clip, 24000).gpt_latents.dtype == torch.float32


def test_text_tokens_may_be_left_to_the_vocabulary(folder: Path) -> None:
    """As XTTS-v2's own config.json does."""

    def forget(data: Any) -> None:
        for key in ("gpt_number_text_tokens", "gpt_start_text_token", "gpt_stop_text_token"):
            data["model_args"][key] = None

    change_json(folder / "config.json", forget)
    sizes = load(folder).speech.gpt.sizes
    assert (sizes.start_text_token, sizes.stop_text_token) == (3, 0)


def test_builtin_loads_fast_and_without_coqui() -> None:
    """Measured from a fresh interpreter: 2 s for torch, 0.4 s for the model on two cores."""
    code = (
        "import sys\n"
        "from app.models.bundles import find_bundle\n"
        "from app.models.loading import load_model\n"
        "from app.settings import Settings\n"
        "model = load_model(find_bundle('builtin', Settings()))\n"
        "assert model.load_s < 5, model.load_s\n"
        "heavy = {'TTS', 'transformers', 'librosa', 'scipy', 'sympy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_builtin_in_short() -> None:
    model = load_model(read_folder(builtin_folder(), "builtin"))
    assert model.languages == ("en",)
    assert model.default_voice == "kathleen"
    assert set(model.voices) == set(model.voice_entries) == {"kathleen", "slt"}
    assert model.voices["slt"].gpt_latents.shape == (1, 32, 256)
    manifest = json.loads((builtin_folder() / "manifest.json").read_text(encoding="utf-8"))
    assert model.sampling.model_dump() == manifest["sampling"]
    assert 0.5 < model.sampling.temperature < 1
    ids = model.tokenizer.encode("the wind rose.", "en")
    assert max(ids) < model.speech.gpt.sizes.num_text_tokens


def test_stock_coqui_loads_the_builtin_weights_strictly(own_folder: Path) -> None:
    """The bundle is complete: nothing that stock needs was left out."""
    from safetensors.torch import load_file
    from toy import decoder_sizes, stock_model
    from TTS.tts.configs.xtts_config import XttsConfig

    config = XttsConfig()
    config.load_json(str(own_folder / "config.json"))
    model = stock_model(config, decoder_sizes(own_folder))
    model.load_state_dict(load_file(own_folder / "model.safetensors"), strict=True)


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("gpt.mel_head.weight", "gpt.mel_head.weight"),
        ("gpt.conditioning_encoder.init.weight", "conditioning_encoder.init.weight"),
        ("hifigan_decoder.waveform_decoder.conv_pre.weight", "conv_pre.weight"),
        ("hifigan_decoder.speaker_encoder.fc.weight", "fc.weight"),
        ("mel_stats", "mel_stats"),
    ],
)
@pytest.mark.parametrize("gone", [True, False], ids=["missing", "wrong shape"])
def test_a_wrong_tensor_names_file_and_tensor(
    folder: Path, name: str, culprit: str, gone: bool
) -> None:
    state = read_toy_state()
    if gone:
        del state[name]
    else:
        state[name] = state[name][:3].clone()
    torch.save({"model": state}, folder / "model.pth")
    with pytest.raises(ModelFileError) as caught:
        load(folder)
    assert str(folder / "model.pth") in caught.value.message
    assert culprit in caught.value.message


def test_a_truncated_stock_model(folder: Path) -> None:
    data = (folder / "model.pth").read_bytes()
    (folder / "model.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match=r"model\.pth can't be read.*fetch or copy"):
        load(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": {"vocab": {}}}'])
def test_a_broken_vocabulary(folder: Path, text: str) -> None:
    (folder / "vocab.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"vocab\.json"):
        load(folder)


def test_a_vocabulary_of_another_model(folder: Path) -> None:
    def enlarge(data: Any) -> None:
        data["model"]["vocab"]["extra"] = len(data["model"]["vocab"])

    change_json(folder / "vocab.json", enlarge)
    with pytest.raises(ModelFileError, match=r"vocab\.json has 50 tokens and .* only 49"):
        load(folder)


def test_only_languages_of_the_vocabulary_are_spoken(folder: Path) -> None:
    change_json(folder / "config.json", lambda data: data.update(languages=["ja", "pt", "en"]))
    assert load(folder).languages == ("pt", "en")
    change_json(folder / "config.json", lambda data: data.update(languages=["ja"]))
    with pytest.raises(ModelFileError, match=r"no token for any of the model's languages \(ja\)"):
        load(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"gpt_cond_latent": torch.zeros(1, 32, 1024), "speaker_embedding": torch.zeros(1, 512, 1)},
        {"gpt_cond_latent": torch.zeros(1, 32, 64)},
        [1, 2],
    ],
)
def test_stored_speakers_of_another_model(folder: Path, entry: Any) -> None:
    torch.save({"eve": entry}, folder / "speakers_xtts.pth")
    with pytest.raises(ModelFileError, match=r"speakers_xtts\.pth: voice 'eve'"):
        load(folder)


def test_a_changed_file_of_a_bundle_is_refused(own_folder: Path) -> None:
    change_json(own_folder / "config.json", lambda data: data.update(temperature=0.1))
    with pytest.raises(ModelFileError, match=r"config\.json is not what the manifest says"):
        load(own_folder)


def test_a_voice_that_the_manifest_names_must_be_there(own_folder: Path) -> None:
    (own_folder / "voices" / "slt.safetensors").unlink()
    manifest = read_manifest(own_folder)
    changed = manifest.model_copy(update={"files": hash_files(own_folder)})
    write_manifest(own_folder, changed)
    with pytest.raises(ModelFileError, match=r"lacks the voices slt"):
        load(own_folder)
