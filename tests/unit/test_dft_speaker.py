"""A voice computed with a broken FFT is the same voice: both routes, the shipped model, real clips.

torch.stft is taken away for the route without an FFT, so nothing can use it on the quiet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from app.devices.routes import FftRoute
from app.engine.dft import spectrum_by_route
from app.engine.types import Conditioning
from app.models.bundles import builtin_folder, read_folder
from app.models.conditioning import Conditioner
from app.models.config import read_config
from app.models.weights import read_state

CLIPS = sorted((Path(__file__).resolve().parents[1] / "data" / "clips").glob("*.flac"))
MIN_COSINE = 0.9999


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks run faster so, the more when other tests run beside these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def conditioner(route: FftRoute) -> Conditioner:
    bundle = read_folder(builtin_folder(), "builtin")
    return Conditioner.from_state_dict(
        read_state(bundle.weights),
        read_config(bundle.config),
        bundle.weights,
        power=spectrum_by_route(route),
    )


def voice_of(clip: Path, route: FftRoute) -> Conditioning:
    samples, sample_rate = soundfile.read(clip, dtype="float32")
    return conditioner(route).encode(np.asarray(samples), sample_rate)


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(F.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def broken_stft(*_: Any, **__: Any) -> torch.Tensor:
    raise RuntimeError("cuFFT error: CUFFT_INVALID_SIZE")


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.stem)
def test_voice_without_fft_is_the_same(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_fft = voice_of(clip, "device")
    monkeypatch.setattr(torch, "stft", broken_stft)
    with pytest.raises(RuntimeError, match="CUFFT"):
        voice_of(clip, "device")
    by_dft = voice_of(clip, "dft")
    assert cosine(by_fft.speaker_embedding, by_dft.speaker_embedding) >= MIN_COSINE
    assert cosine(by_fft.gpt_latents, by_dft.gpt_latents) >= MIN_COSINE


def test_another_clip_is_further_away_than_another_route() -> None:
    """The measure is no rubber stamp, however alike the model's voices are."""
    by_fft, by_dft = (voice_of(CLIPS[0], route) for route in ("device", "dft"))
    other = voice_of(CLIPS[1], "dft")
    for name in ("speaker_embedding", "gpt_latents"):
        one = getattr(by_dft, name)
        between_routes = float((one - getattr(by_fft, name)).norm())
        between_clips = float((one - getattr(other, name)).norm())
        assert between_clips > 10 * between_routes
