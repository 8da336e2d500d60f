"""Distances between waveforms that follow what is heard: spectra at several resolutions, and mels.

Spectral convergence and log magnitude as in Parallel WaveGAN (Yamamoto et al. 2020), log-mel L1 as
in HiFi-GAN (Kong et al. 2020). Works on float32 waveforms [rows, samples].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.transforms import MelScale

_RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))
_MEL_FFT, _MEL_HOP, _NUM_MELS = 1024, 256, 80
_SMALLEST = 1e-4


class SpectralDistance(nn.Module):
    """Sum of the distances, weighted as `stft_weight` and `mel_weight` say."""

    def __init__(self, sample_rate: int, stft_weight: float = 1.0, mel_weight: float = 2.0) -> None:
        super().__init__()
        self._stft_weight = stft_weight
        self._mel_weight = mel_weight
        self._mel = MelScale(
            _NUM_MELS, sample_rate, 0, sample_rate / 2, _MEL_FFT // 2 + 1, "slaney"
        )
        for size, _ in _RESOLUTIONS:
            self.register_buffer(f"_window_{size}", torch.hann_window(size), persistent=False)

    def forward(self, made: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Returns the scalars `stft` and `mel` and their weighted sum `spectral`."""
        stft = made.new_zeros(())
        mel = made.new_zeros(())
        for size, hop in _RESOLUTIONS:
            a, b = self._magnitude(made, size, hop), self._magnitude(wanted, size, hop)
            convergence = (b - a).norm() / b.norm().clamp(min=_SMALLEST)
            stft = stft + convergence + F.l1_loss(a.log(), b.log())
            if (size, hop) == (_MEL_FFT, _MEL_HOP):
                mel = F.l1_loss(self._log_mel(a), self._log_mel(b))
        stft = stft / len(_RESOLUTIONS)
        total = self._stft_weight * stft + self._mel_weight * mel
        return {"spectral": total, "stft": stft, "mel": mel}

    def _magnitude(self, samples: Tensor, size: int, hop: int) -> Tensor:
        window = self.get_buffer(f"_window_{size}")
        spectrum = torch.stft(samples, size, hop, window=window, return_complex=True)
        # The root of a tiny number, not abs(): abs() of exact zero has no gradient.
        return (spectrum.real**2 + spectrum.imag**2 + _SMALLEST**2).sqrt()

    def _log_mel(self, magnitude: Tensor) -> Tensor:
        mel: Tensor = self._mel(magnitude)
        return mel.clamp(min=_SMALLEST).log()
