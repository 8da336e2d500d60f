"""Log-mel spectrograms as XTTS takes them.

Two kinds (coqui-tts 0.28, `dvae_wav_to_mel` and `wav_to_mel_cloning`): a window of 1024 for the
DVAE, an FFT of 2048 for the conditioning encoder; both 80 bands, hop 256, at 22.05 kHz. Not
divided by the model's `mel_stats`: the callers do that.
"""

from __future__ import annotations

from functools import cache

from torch import Tensor
from torchaudio.transforms import MelSpectrogram, Resample

MEL_RATE = 22050
HOP = 256
NUM_MELS = 80
#: `torch.log(torch.clamp(mel, min=1e-5))` in both functions
_SMALLEST_POWER = 1e-5


def code_mel(samples: Tensor) -> Tensor:
    """Returns the log-mel [80, frames] that the DVAE reads, of `samples` [n] at 22.05 kHz."""
    return _log_mel(samples, 1024)


def style_mel(samples: Tensor) -> Tensor:
    """Returns the log-mel [80, frames] that the conditioning encoder reads; input as above."""
    return _log_mel(samples, 2048)


def resample(samples: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Returns `samples` [n] at another rate."""
    if source_rate == target_rate:
        return samples
    resampled: Tensor = _resampler(source_rate, target_rate)(samples)
    return resampled


def _log_mel(samples: Tensor, fft_size: int) -> Tensor:
    mel: Tensor = _transform(fft_size)(samples)
    return mel.clamp(min=_SMALLEST_POWER).log()


@cache
def _transform(fft_size: int) -> MelSpectrogram:
    return MelSpectrogram(
        n_fft=fft_size,
        hop_length=HOP,
        win_length=1024,
        power=2,
        normalized=False,
        sample_rate=MEL_RATE,
        f_min=0,
        f_max=8000,
        n_mels=NUM_MELS,
        norm="slaney",
    )


@cache
def _resampler(source_rate: int, target_rate: int) -> Resample:
    return Resample(source_rate, target_rate)
