"""Our conditioning against stock coqui's, on random weights in stock's format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from toy import load_stock, toy_folder

from app.errors import InputError, ModelFileError
from app.models.conditioning import Conditioner
from app.models.config import read_config
from app.models.mel import SpeakerMel, stft_power
from app.models.weights import read_state

TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks run faster so, the more when other tests run beside these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy with weights that make every part of the conditioning count.

    A fresh model has zeros in each attention's output and neutral norms and mel statistics.
    """
    target = tmp_path_factory.mktemp("models") / "conditioned"
    shutil.copytree(toy_folder(), target)
    checkpoint = torch.load(target / "model.pth", weights_only=True)
    generator = torch.Generator().manual_seed(7)
    for name, value in checkpoint["model"].items():
        noise = torch.randn(value.shape, generator=generator)
        if "torch_spec" in name:
            continue  # the front end's constants
        if value.ndim > 1 and ("conditioning" in name or "speaker_encoder" in name):
            # larger ones make attention so sharp that float32 itself is off by 1e-4
            gain = 2.0 if "speaker_encoder" in name else 1.0
            value.copy_(noise * (gain / value[0].numel()) ** 0.5)
        elif name.endswith(("running_mean", "norm.bias", "bn1.bias", "bn2.bias")):
            value.add_(0.1 * noise)
        elif name.endswith(("running_var", "norm.weight", "norm.gamma")):
            value.mul_((0.2 * noise).exp())
        elif name == "mel_stats":
            value.copy_(-5 + noise)
    torch.save(checkpoint, target / "model.pth")
    return target


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    return load_stock(folder)


def make_clip(duration_s: float, sample_rate: int) -> NDArray[np.float32]:
    """A glide with noise, louder than full scale now and then, so that clipping counts."""
    times = np.arange(int(duration_s * sample_rate)) / sample_rate
    noise = np.random.default_rng(3).normal(scale=0.05, size=times.size)
    swell = 0.7 + 0.5 * np.sin(2 * np.pi * 0.7 * times)
    return (swell * np.sin(2 * np.pi * (180 + 40 * times) * times) + noise).astype(np.float32)


def make_conditioner(folder: Path, **changes: Any) -> Conditioner:
    """Loads the conditioner with some values of config.json changed."""
    data = json.loads((folder / "config.json").read_text())
    config_path = folder / "changed.json"
    config_path.write_text(json.dumps({**data, **changes}))
    weights = folder / "model.pth"
    return Conditioner.from_state_dict(read_state(weights), read_config(config_path), weights)


@pytest.mark.parametrize(
    ("duration_s", "sample_rate", "total_s", "chunk_s", "max_s", "normalise"),
    [
        (4.5, 22050, 4, 1, 3, False),  # cut to 3 s; no resampling for the GPT
        (3.0, 24000, 2, 2, 30, False),  # one chunk, the rest is cut
        (2.2, 44100, 12, 1, 10, True),  # the last chunk is below 0.33 s and left out
        (2.0, 8000, -1, 4, 10, False),  # a total below zero listens to everything
    ],
)
def test_equals_stock(
    folder: Path,
    stock: Any,
    tmp_path: Path,
    duration_s: float,
    sample_rate: int,
    total_s: int,
    chunk_s: int,
    max_s: int,
    normalise: bool,
) -> None:
    clip = make_clip(duration_s, sample_rate)
    soundfile.write(tmp_path / "clip.wav", clip, sample_rate, subtype="FLOAT")
    latents, embedding = stock.get_conditioning_latents(
        str(tmp_path / "clip.wav"),
        gpt_cond_len=total_s,
        gpt_cond_chunk_len=chunk_s,
        max_ref_length=max_s,
        sound_norm_refs=normalise,
    )
    conditioner = make_conditioner(
        folder,
        gpt_cond_len=total_s,
        gpt_cond_chunk_len=chunk_s,
        max_ref_len=max_s,
        sound_norm_refs=normalise,
    )

    ours = conditioner.encode(clip, sample_rate)

    assert ours.gpt_latents.shape == latents.shape == (1, 32, 64)
    assert ours.speaker_embedding.shape == embedding.shape == (1, 512, 1)
    assert (ours.gpt_latents - latents).abs().max() < TOLERANCE * latents.abs().max()
    assert (ours.speaker_embedding - embedding).abs().max() < TOLERANCE * embedding.abs().max()


def test_different_clips_give_different_voices(folder: Path) -> None:
    """Guards the test above: a conditioner that ignores its input would need weights that do."""
    conditioner = make_conditioner(folder)
    one = conditioner.encode(make_clip(3.0, 22050), 22050)
    other = conditioner.encode(make_clip(3.0, 22050)[::-1].copy(), 22050)
    assert (one.gpt_latents - other.gpt_latents).abs().max() > 0.01
    assert (one.speaker_embedding - other.speaker_embedding).abs().max() > 0.01


def test_spectra_take_the_route_they_are_given(folder: Path) -> None:
    sizes = []

    def power(samples: torch.Tensor, window: torch.Tensor, n_fft: int, hop: int) -> torch.Tensor:
        sizes.append((n_fft, window.shape[0], hop))
        return stft_power(samples, window, n_fft, hop)

    weights = folder / "model.pth"
    config = read_config(folder / "config.json")
    routed = Conditioner.from_state_dict(read_state(weights), config, weights, power=power)
    routed.encode(make_clip(2.0, 22050), 22050)
    assert sorted(sizes) == [(512, 400, 160), (2048, 1024, 256)]


def test_mel_filters_come_from_the_file() -> None:
    """Twice the filters, twice the energy: 0.69 more in the logarithm."""
    samples = torch.from_numpy(make_clip(1.0, 16000))[None]
    emphasis, window = torch.tensor([[[-0.97, 1.0]]]), torch.hamming_window(400)
    filters = torch.rand(257, 64, generator=torch.Generator().manual_seed(0))
    once = SpeakerMel(emphasis, window, filters)(samples)
    twice = SpeakerMel(emphasis, window, 2 * filters)(samples)
    torch.testing.assert_close(twice - once, torch.full_like(once, np.log(2)), atol=1e-3, rtol=0)


def test_identity_follows_weights_and_lengths(folder: Path) -> None:
    plain = make_conditioner(folder)
    assert plain.identity == make_conditioner(folder).identity
    assert plain.identity != make_conditioner(folder, gpt_cond_len=6).identity
    state = read_state(folder / "model.pth")
    for name in ("gpt.conditioning_perceiver.norm.gamma", "mel_stats"):
        changed = {**state, name: state[name] + 1e-3}
        config = read_config(folder / "config.json")
        other = Conditioner.from_state_dict(changed, config, folder / "model.pth")
        assert plain.identity != other.identity, name


@pytest.mark.parametrize(
    "clip",
    [
        np.zeros(22050, np.float32),
        np.full(22050, np.nan, np.float32),
        make_clip(0.2, 22050),
    ],
    ids=["silent", "nan", "too short"],
)
def test_unusable_clips_are_refused(folder: Path, clip: NDArray[np.float32]) -> None:
    with pytest.raises(InputError) as caught:
        make_conditioner(folder).encode(clip, 22050)
    assert caught.value.param == "file"


def test_xtts_v1_is_refused(folder: Path) -> None:
    data = json.loads((folder / "config.json").read_text())
    data["model_args"]["gpt_use_perceiver_resampler"] = False
    (folder / "v1.json").write_text(json.dumps(data))
    weights = folder / "model.pth"
    with pytest.raises(ModelFileError, match=r"v1\.json.*XTTS v1"):
        Conditioner.from_state_dict(read_state(weights), read_config(folder / "v1.json"), weights)


def test_a_wrong_shape_is_named(folder: Path) -> None:
    weights = folder / "model.pth"
    name = "gpt.conditioning_encoder.attn.2.qkv.weight"
    state = read_state(weights)
    state[name] = state[name][:10]
    del state["gpt.conditioning_perceiver.latents"]
    with pytest.raises(ModelFileError) as caught:
        Conditioner.from_state_dict(state, read_config(folder / "config.json"), weights)
    message = caught.value.message
    assert str(weights) in message
    assert "attn.2.qkv.weight is [10, 64, 1] where [192, 64, 1] belongs" in message
    assert "latents is missing" in message
