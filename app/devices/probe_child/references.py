"""The true answers: power spectra in float64 by numpy, which shares no FFT code with torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.devices.operations import StftShape, WindowName

_SEED = 20_240
# Amplitudes of the harmonics of a made-up voice at 110 Hz and up, below full scale together.
_HARMONICS = (0.25, 0.15, 0.1, 0.06, 0.04)
_PITCH_HZ = 110.0


def voices_like(num: int, num_samples: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Returns [num, num_samples] of sound with the build of speech: harmonics and some noise.

    Every row is different, so that a result left over from another call can't pass for right.
    """
    draw = np.random.default_rng(_SEED)
    time_s = np.arange(num_samples) / sample_rate
    rows = draw.normal(0.0, 0.02, (num, num_samples))
    for row in range(num):
        pitch_hz = _PITCH_HZ * (1.0 + 0.19 * row)
        for index, amplitude in enumerate(_HARMONICS, start=1):
            phase = draw.uniform(0.0, 2 * np.pi)
            rows[row] += amplitude * np.sin(2 * np.pi * index * pitch_hz * time_s + phase)
    return rows.astype(np.float32)


def window_samples(name: WindowName, length: int) -> npt.NDArray[np.float64]:
    """Returns [length] samples of the periodic window, as torch's window functions make them."""
    base = 0.54 if name == "hamming" else 0.5
    turns = np.arange(length, dtype=np.float64) / length
    window: npt.NDArray[np.float64] = base - (1.0 - base) * np.cos(2 * np.pi * turns)
    return window


def power_spectrum(samples: npt.NDArray[np.float32], shape: StftShape) -> npt.NDArray[np.float64]:
    """Returns the power spectrum [n_fft // 2 + 1, frames] of [num_samples], in float64.

    Frames are centred with reflection at the ends, as torch.stft and torchaudio do it.
    """
    padded = np.pad(samples.astype(np.float64), shape.n_fft // 2, mode="reflect")
    window = np.zeros(shape.n_fft)
    start = (shape.n_fft - shape.win_length) // 2
    window[start : start + shape.win_length] = window_samples(shape.window, shape.win_length)
    frames = np.lib.stride_tricks.sliding_window_view(padded, shape.n_fft)[:: shape.hop_length]
    power: npt.NDArray[np.float64] = (np.abs(np.fft.rfft(frames * window, axis=1)) ** 2).T
    return power
