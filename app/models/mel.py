"""The two mel front ends of XTTS's conditioning, around one replaceable spectrum function.

Everything runs where its input lies; the conditioner keeps that on the CPU. Knows no networks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

#: (samples [B, T], window [W], n_fft, hop) -> power spectrum [B, n_fft // 2 + 1, frames].
PowerSpectrum = Callable[[Tensor, Tensor, int, int], Tensor]

#: Rate of the GPT's reference audio (XttsAudioConfig.sample_rate), in Hz.
REFERENCE_RATE = 22050
#: Rate of the speaker encoder (HifiDecoder's speaker_encoder_audio_config), in Hz.
SPEAKER_RATE = 16000
NUM_REFERENCE_MELS = 80
NUM_SPEAKER_MELS = 64
SPEAKER_N_FFT = 512
SPEAKER_WINDOW = 400

# Xtts.get_gpt_cond_latents, the branch with the perceiver
_REFERENCE_N_FFT = 2048
_REFERENCE_WINDOW = 1024
_REFERENCE_HOP = 256
_REFERENCE_TOP_HZ = 8000.0
_SPEAKER_HOP = 160
_LOG_FLOOR = 1e-5
# resnet.py, `log_input`
_SPEAKER_LOG_OFFSET = 1e-6


def stft_power(samples: Tensor, window: Tensor, n_fft: int, hop: int) -> Tensor:
    """Power spectrum by FFT: centred frames, reflected edges, as torchaudio's Spectrogram.

    Args:
        samples: [B, T], T above `n_fft // 2`.
        window: [W], W at most `n_fft`; padded on both sides to `n_fft`.
        n_fft: transform length, in samples.
        hop: distance of frames, in samples.

    Returns:
        [B, n_fft // 2 + 1, 1 + T // hop].
    """
    spectrum = torch.stft(
        samples,
        n_fft,
        hop,
        win_length=window.shape[0],
        window=window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    return spectrum.abs().pow(2.0)


class ReferenceMel:
    """Log-mel that the GPT's conditioning encoder reads: 2048/1024/256 Hann at 22.05 kHz."""

    def __init__(self, mel_stats: Tensor, power: PowerSpectrum = stft_power) -> None:
        self._mel_stats = mel_stats  # [80], mean log-mel of the training data
        self._power = power
        self._window = torch.hann_window(_REFERENCE_WINDOW)
        self._filters = torchaudio.functional.melscale_fbanks(
            _REFERENCE_N_FFT // 2 + 1,
            0.0,
            _REFERENCE_TOP_HZ,
            NUM_REFERENCE_MELS,
            REFERENCE_RATE,
            norm="slaney",
            mel_scale="htk",
        )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What came from the model file."""
        return (self._mel_stats,)

    def __call__(self, samples: Tensor) -> Tensor:
        """Turns [B, T] samples at 22.05 kHz into [B, 80, 1 + T // 256]."""
        power = self._power(samples, self._window, _REFERENCE_N_FFT, _REFERENCE_HOP)
        mel = torch.matmul(power.transpose(1, 2), self._filters).transpose(1, 2)
        return torch.log(mel.clamp(min=_LOG_FLOOR)) / self._mel_stats[None, :, None]


class SpeakerMel:
    """Log-mel that the speaker encoder reads: 512/400/160 Hamming at 16 kHz, pre-emphasised.

    The filter, window and mel matrix come from the model file, which stores them.
    """

    def __init__(
        self,
        emphasis: Tensor,
        window: Tensor,
        filters: Tensor,
        power: PowerSpectrum = stft_power,
    ) -> None:
        self._emphasis = emphasis  # [1, 1, 2]
        self._window = window  # [400]
        self._filters = filters  # [257, 64]
        self._power = power

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What came from the model file."""
        return (self._emphasis, self._window, self._filters)

    def __call__(self, samples: Tensor) -> Tensor:
        """Turns [B, T] samples at 16 kHz into [B, 64, 1 + T // 160]."""
        padded = F.pad(samples.unsqueeze(1), (1, 0), "reflect")
        emphasised = F.conv1d(padded, self._emphasis).squeeze(1)
        power = self._power(emphasised, self._window, SPEAKER_N_FFT, _SPEAKER_HOP)
        mel = torch.matmul(power.transpose(1, 2), self._filters).transpose(1, 2)
        return torch.log(mel + _SPEAKER_LOG_OFFSET)
