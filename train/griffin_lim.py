"""Speech from a mel without a vocoder, to hear what a mel holds.

Griffin and Lim (1984), the fast variant of torchaudio; mels as `train.mels.code_mel`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchaudio.functional import griffinlim
from torchaudio.transforms import MelScale

from train.mels import HOP, MEL_RATE, NUM_MELS

_FFT = 1024
_ROUNDS = 32


def speak_mel(log_mel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns samples at 22.05 kHz of a log-mel [frames, 80]."""
    power = torch.from_numpy(log_mel).T.exp()
    spectrum = (_inverse() @ power).clamp(min=1e-8)
    samples = griffinlim(
        spectrum,
        torch.hann_window(_FFT),
        n_fft=_FFT,
        hop_length=HOP,
        win_length=_FFT,
        power=2.0,
        n_iter=_ROUNDS,
        momentum=0.9,
        length=None,
        rand_init=False,
    )
    made: npt.NDArray[np.float32] = samples.numpy()
    return made


@cache
def _inverse() -> Tensor:
    """The pseudo-inverse of the mel filters [513, 80]."""
    scale = MelScale(NUM_MELS, MEL_RATE, 0, 8000, _FFT // 2 + 1, "slaney")
    inverse: Tensor = torch.linalg.pinv(scale.fb.T)
    return inverse
