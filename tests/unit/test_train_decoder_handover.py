"""A fine-tuned decoder in the file of its model: nothing else changes, and stock loads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_runs import TINY_ARGS, prepared_clips, tiny_bundle
from safetensors.torch import load_file
from torch import Tensor
from toy import MODEL_ARGS, build_bundle, fold_weight_norm
from training_runs import BUILTIN

from app.engine.vocoder import frame_scales
from app.errors import OutputError, SettingsError
from app.files import sha256_of_file
from app.models.bundles import Bundle, find_bundle, read_folder, read_model
from app.models.config import read_config
from app.models.loading import load_model
from app.models.weights import State, read_state
from app.settings import Settings
from train.decoder.generator import PREFIX, load_generator, put_back, stretch
from train.decoder.judge import Change, Verdict
from train.decoder.preparing import BaseParts
from train.decoder.run import DecoderResult
from train.handover.decoder import DecoderHandover, export_decoder
from train.handover.of_decoder import hand_over

_OLD = {"original0": "weight_g", "original1": "weight_v"}


def as_stored(state: Mapping[str, Tensor]) -> State:
    return dict(state)


def old_names(state: Mapping[str, Tensor]) -> State:
    """Returns the state as torch's older weight norm names it."""
    return {
        f"{name.split('.parametrizations.')[0]}.{_OLD[name.rsplit('.', 1)[1]]}"
        if ".parametrizations." in name
        else name: value
        for name, value in state.items()
    }


def halved(state: Mapping[str, Tensor]) -> State:
    return {name: value.half() for name, value in state.items()}


@pytest.mark.parametrize("spelling", [as_stored, old_names, fold_weight_norm, halved])
@torch.no_grad()
def test_a_generator_goes_in_and_out_of_every_kind_of_file(
    tmp_path: Path, spelling: Callable[[Mapping[str, Tensor]], State]
) -> None:
    base = BaseParts.read(tiny_bundle(tmp_path))
    state = spelling(base.state)
    generator = load_generator(state, base.sizes, tmp_path)
    stock = load_generator(base.state, base.sizes, tmp_path)
    drawn = torch.Generator().manual_seed(0)
    latents = torch.randn(1, base.sizes.latent_dim, 7, generator=drawn)
    vector = torch.randn(1, 512, 1, generator=drawn) / 512**0.5  # about as long as a real one
    fed = stretch(latents, frame_scales(base.sizes, 1.0))
    tolerance = 2e-2 if spelling is halved else 1e-5
    torch.testing.assert_close(
        generator(fed, vector), stock(fed, vector), rtol=tolerance, atol=tolerance
    )

    for parameter in generator.parameters():
        parameter.mul_(1.1)
    made = put_back(state, generator.state_dict())
    assert list(made) == list(state)
    for name, value in made.items():
        assert value.dtype == state[name].dtype
        if not name.startswith(PREFIX):
            assert value is state[name]
        else:
            assert not torch.equal(value, state[name]), name
    again = load_generator(made, base.sizes, tmp_path)
    torch.testing.assert_close(
        again(fed, vector), generator(fed, vector), rtol=tolerance, atol=tolerance
    )


def test_weights_that_are_no_numbers_are_not_written(tmp_path: Path) -> None:
    base = BaseParts.read(tiny_bundle(tmp_path))
    trained = load_generator(base.state, base.sizes, tmp_path).state_dict()
    trained["conv_pre.bias"][0] = torch.nan
    with pytest.raises(OutputError, match=r"conv_pre\.bias is not finite"):
        put_back(base.state, trained)


@torch.no_grad()
def louder(base: Bundle) -> DecoderHandover:
    """Returns a hand-over of the base's decoder with every weight moved."""
    parts = BaseParts.read(base)
    trained = load_generator(parts.state, parts.sizes, base.weights).state_dict()
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: value * (1 + 0.01 * torch.rand(value.shape, generator=generator))
        for name, value in trained.items()
    }
    return DecoderHandover(base, moved, 300, "my_voice", 0.5, {"decoder_mel_distance": 0.5})


def test_stock_loads_an_xtts_with_its_decoder_fine_tuned(tmp_path: Path) -> None:
    """At the shapes of XTTS-v2's own decoder, through stock's own loader, which is strict."""
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.models.xtts import Xtts

    base = read_folder(build_bundle(tmp_path / "base", MODEL_ARGS, None), "base")
    folder = export_decoder(louder(base), tmp_path / "models" / "tuned")
    config = XttsConfig()
    config.load_json(str(folder / "config.json"))
    stock = Xtts(config)
    stock.load_checkpoint(config, checkpoint_dir=str(folder), use_deepspeed=False)
    before, after = read_state(base.weights), read_state(folder / "model.pth")
    check_only_the_decoder_moved(before, after)
    loaded = stock.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in after.items())
    found = find_bundle("tuned", Settings(models_dir=folder.parent))
    assert found.version == "base+decoder-300"
    assert load_model(found).voices.keys() == load_model(base).voices.keys()


def test_a_checkpoint_of_a_run_becomes_a_stock_folder(tmp_path: Path) -> None:
    run = tmp_path / "run" / "checkpoints"
    tiny_bundle(run)
    (run / "model.pth").rename(run / "checkpoint_epoch_3.pt")
    base = read_model(run / "checkpoint_epoch_3.pt", "checkpoint_epoch_3")
    folder = export_decoder(louder(base), tmp_path / "tuned")
    check_only_the_decoder_moved(read_state(base.weights), read_state(folder / "model.pth"))
    assert load_model(read_folder(folder, "tuned")).sample_rate == 24000
    assert not list(folder.glob("checkpoint*"))


def test_a_bundle_stays_a_bundle(tmp_path: Path) -> None:
    base = read_folder(BUILTIN, "builtin")
    folder = export_decoder(louder(base), tmp_path / "tuned")
    check_only_the_decoder_moved(
        load_file(BUILTIN / "model.safetensors"), load_file(folder / "model.safetensors")
    )
    for name in ("config.json", "vocab.json", "voices/kathleen.safetensors"):
        assert (folder / name).read_bytes() == (BUILTIN / name).read_bytes()
    assert (folder / "training" / "dvae.safetensors").is_file()  # to be trained further
    found = read_folder(folder, "tuned")
    assert found.manifest is not None
    assert base.manifest is not None
    assert found.manifest.scores == {"decoder_mel_distance": 0.5}
    assert found.manifest.data[:-1] == base.manifest.data
    assert found.manifest.data[-1].name == "my_voice"
    assert load_model(found).version == f"{base.version}+decoder-300"  # every hash is right
    with pytest.raises(SettingsError, match="exists already"):
        export_decoder(louder(base), folder)


def check_only_the_decoder_moved(before: State, after: State) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        assert torch.equal(value, after[name]) != name.startswith(PREFIX), name


def result_of(
    base: Bundle, difference: float, of_true: float = -0.1, **changes: Any
) -> DecoderResult:
    """Returns a result by what became of clips with drawn codes, and of those with true ones."""
    handover = louder(base)
    drawn = Change(2.0, 2.0 + difference, difference, 0.1)
    true = Change(1.5, 1.5 + of_true, of_true, 0.1)
    result = DecoderResult(
        finished=True,
        reason="finished",
        step=300,
        trained_s=1.0,
        delay=0,
        num_judged=4,
        before={"spectral": 1.5, "drawn_spectral": 2.0},
        after={"spectral": 1.5 + of_true, "drawn_spectral": 2.0 + difference},
        change=Verdict(true, drawn),
        best_step=300,
        best=handover.trained,
        base_sha256=sha256_of_file(base.weights),
    )
    return replace(result, **changes)


def test_only_a_better_decoder_is_handed_over_and_once(tmp_path: Path) -> None:
    base = tiny_bundle(tmp_path / "base")
    clips = prepared_clips(tmp_path / "clips", base, num_train=2)
    places: dict[str, Any] = {
        "data": "my_voice",
        "folder": tmp_path / "run",
        "models_dir": tmp_path / "models",
    }
    for difference, of_true in ((0.5, -0.5), (0.0, -0.5), (-0.15, -0.5), (-0.5, 0.01)):
        folder, told = hand_over(result_of(base, difference, of_true), base, clips, **places)
        assert folder is None
        assert "no gain" in told
        assert "tiny keeps its decoder" in told
    assert not (tmp_path / "models").exists()
    other = result_of(base, -0.5, base_sha256="0" * 64)
    folder, told = hand_over(other, base, clips, **places)
    assert folder is None
    assert "changed while its decoder was trained" in told
    folder, told = hand_over(result_of(base, -0.5), base, clips, **places)
    assert folder == tmp_path / "models" / "tiny-decoder-v1"
    assert "2.000 and 1.500 (-0.500, give or take 0.200) with codes drawn by the GPT" in told
    assert "1.500 and 1.400 (-0.100, give or take 0.200) with theirs alone" in told
    again, told = hand_over(result_of(base, -0.5), base, clips, **places)
    assert again is not None
    assert again.name == folder.name
    assert "exported already" in told
    later, _ = hand_over(result_of(base, -0.6, best_step=400), base, clips, **places)
    assert later == tmp_path / "models" / "tiny-decoder-v2"
    assert read_config(later / "config.json").model_args["gpt_layers"] == TINY_ARGS["gpt_layers"]
