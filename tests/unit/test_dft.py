"""The Fourier transform without an FFT gives what torch.stft gives, at the sizes of XTTS."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchaudio

from app.devices.operations import STFT_SHAPES, StftShape
from app.devices.probe_child.references import power_spectrum, voices_like
from app.devices.routes import FftRoute
from app.engine.dft import power_spectrogram, spectrum_by_route
from app.errors import InputError

WINDOWS = {"hamming": torch.hamming_window, "hann": torch.hann_window}
ROUTES: tuple[FftRoute, ...] = ("device", "cpu", "dft")


def power(samples: torch.Tensor, shape: StftShape, route: FftRoute) -> torch.Tensor:
    window = WINDOWS[shape.window](shape.win_length)
    return power_spectrogram(
        samples, shape.n_fft, shape.win_length, shape.hop_length, window, route
    )


def sound(shape: StftShape, length_s: float, batch: int = 3) -> torch.Tensor:
    rows = voices_like(batch, int(length_s * shape.sample_rate), shape.sample_rate)
    return torch.from_numpy(rows)


@pytest.mark.parametrize("shape", STFT_SHAPES, ids=lambda s: s.name)
@pytest.mark.parametrize("length_s", [0.33, 6.0, 11.6])
def test_every_route_equals_torch_stft(shape: StftShape, length_s: float) -> None:
    samples = sound(shape, length_s)
    window = WINDOWS[shape.window](shape.win_length)
    stock = torchaudio.transforms.Spectrogram(
        shape.n_fft, shape.win_length, shape.hop_length, window_fn=WINDOWS[shape.window]
    )(samples)
    plain = torch.stft(
        samples, shape.n_fft, shape.hop_length, shape.win_length, window, return_complex=True
    )
    for route in ROUTES:
        found = power(samples, shape, route)
        assert found.shape == stock.shape
        assert (found - stock).abs().max() <= 1e-5 * stock.max(), route
        assert (found - plain.abs().square()).abs().max() <= 1e-5 * stock.max(), route


@pytest.mark.parametrize("shape", STFT_SHAPES, ids=lambda s: s.name)
def test_dft_is_as_near_to_the_truth_as_the_fft(shape: StftShape) -> None:
    samples = sound(shape, 1.0, batch=1)
    truth = torch.from_numpy(power_spectrum(samples[0].numpy(), shape).copy())
    error = {
        route: float((power(samples, shape, route)[0] - truth).abs().max() / truth.max())
        for route in ROUTES
    }
    assert error["dft"] <= 3e-6
    assert error["device"] <= 3e-6


def test_quiet_bins_of_a_mel_survive_the_dft() -> None:
    """The log of a mel shows errors far below the maximum: compare as the models see it."""
    shape = STFT_SHAPES[2]
    mel = torchaudio.transforms.MelScale(80, 22_050, 0, 8000, shape.n_fft // 2 + 1, norm="slaney")
    samples = sound(shape, 6.0)
    by_fft, by_dft = (
        mel(power(samples, shape, route)).clamp(min=1e-5).log() for route in ("device", "dft")
    )
    assert (by_fft - by_dft).abs().max() < 2e-3


def test_odd_hop_and_long_window_follow_torch() -> None:
    samples = torch.randn(2, 5000, generator=torch.Generator().manual_seed(1))
    window = torch.hann_window(255)
    plain = torch.stft(samples, 256, 37, 255, window, return_complex=True).abs().square()
    found = power_spectrogram(samples, 256, 255, 37, window, "dft")
    assert found.shape == plain.shape
    assert (found - plain).abs().max() <= 1e-5 * plain.max()


@pytest.mark.parametrize("route", ROUTES)
def test_half_precision_and_autocast_do_not_blur_it(route: FftRoute) -> None:
    shape = STFT_SHAPES[0]
    samples = sound(shape, 0.5)
    plain = power(samples, shape, "device")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = power(samples, shape, route)
    assert under.dtype == torch.float32
    assert (under - plain).abs().max() <= 1e-5 * plain.max()
    from_half = power(samples.half(), shape, route)
    assert from_half.dtype == torch.float32


def test_tf32_setting_is_put_back_even_after_an_error() -> None:
    shape = STFT_SHAPES[0]
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with pytest.raises(RuntimeError):
            power_spectrogram(sound(shape, 0.5), 512, 400, 160, torch.ones(7), "dft")
        assert torch.backends.cuda.matmul.allow_tf32 is True
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("route", ROUTES)
def test_sound_shorter_than_half_a_transform_is_named(route: FftRoute) -> None:
    with pytest.raises(InputError, match="1024"):
        power(torch.zeros(1, 1024), STFT_SHAPES[2], route)


def test_the_dft_route_uses_no_fft(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("cuFFT error: CUFFT_INVALID_SIZE")

    shape = STFT_SHAPES[1]
    samples = sound(shape, 0.33)
    monkeypatch.setattr(torch, "stft", broken)
    monkeypatch.setattr(torch.fft, "rfft", broken)
    with pytest.raises(RuntimeError, match="CUFFT"):
        power(samples, shape, "device")
    assert power(samples, shape, "dft").isfinite().all()


def test_spectrum_by_route_is_what_the_mels_of_the_models_take() -> None:
    shape = STFT_SHAPES[2]
    samples = sound(shape, 0.33)
    window = WINDOWS[shape.window](shape.win_length)
    found = spectrum_by_route("dft")(samples, window, shape.n_fft, shape.hop_length)
    assert torch.equal(found, power(samples, shape, "dft"))
