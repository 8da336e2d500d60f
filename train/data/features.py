"""What is computed of a recording: sound at the training rate, two log-mels, codes.

Reading and resampling is for worker processes; spectra and codes are made where the device is,
with spectra by the route that the probe allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torchaudio
from torch import Tensor

from app.devices.routes import FftRoute
from app.engine.dft import power_spectrogram
from app.errors import InputError
from app.files import sha256_of_bytes
from train.data.audio_facts import read_recording
from train.data.base_model import TRAINING_RATE
from train.data.dvae import CodeMaker
from train.data.levelling import Levelling
from train.data.shards import ClipArrays
from train.mels import HOP, NUM_MELS

#: Raised whenever the same recording would give other arrays: stored ones are then stale.
EXTRACTOR_VERSION = 1
CODE_FFT, STYLE_FFT, WINDOW = 1024, 2048, 1024
NO_SAMPLES: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)
_TOP_HZ = 8000.0
_SMALLEST_POWER = 1e-5


@dataclass(frozen=True)
class Recording:
    """A file's hash and its sound [num_samples] at 22.05 kHz; `fault` says why there is none."""

    sha256: str
    samples: npt.NDArray[np.float32]
    fault: str = ""


def load_recording(path: Path) -> Recording:
    """Reads a file as stock's `load_audio` does: mono, resampled, clipped to -1..1."""
    try:
        content = path.read_bytes()
        clip = read_recording(content)
    except OSError as error:
        return Recording("", NO_SAMPLES, f"{path} can't be read any more ({error.strerror})")
    except InputError as error:
        return Recording("", NO_SAMPLES, error.message)
    sound = torch.from_numpy(clip.samples)
    if clip.sample_rate != TRAINING_RATE:
        with _one_thread():
            sound = torchaudio.functional.resample(sound, clip.sample_rate, TRAINING_RATE)
    return Recording(sha256_of_bytes(content), sound.clip(-1, 1).numpy())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Computes with one thread within the block: recordings are read by a process a processor.

    With few clips that process is the one which trains, so its own number comes back.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class FeatureMaker:
    """Computes all that is stored of a clip.

    Args:
        codes: the model's DVAE.
        device: where spectra are made, unless the route says otherwise.
        route: how they are made.
        levelling: of the recordings, where the model was trained on levelled ones.
    """

    def __init__(
        self,
        codes: CodeMaker,
        device: torch.device,
        route: FftRoute,
        levelling: Levelling | None = None,
    ) -> None:
        self._codes = codes
        self._device = device
        self._route = route
        self.levelling = levelling

    @torch.no_grad()
    def __call__(self, samples: npt.NDArray[np.float32]) -> ClipArrays:
        """Returns the arrays of a clip, [num_samples] at 22.05 kHz."""
        if self.levelling is not None:
            samples = self.levelling(samples, TRAINING_RATE)
        sound = torch.from_numpy(samples).to(self._device)
        code_mel = log_mel(sound, CODE_FFT, self._route)
        style_mel = log_mel(sound, STYLE_FFT, self._route)
        return ClipArrays(
            codes=self._codes(code_mel, len(samples)),
            style_mel=_stored(style_mel),
            code_mel=_stored(code_mel),
            num_samples=len(samples),
        )


def log_mel(samples: Tensor, n_fft: int, route: FftRoute = "device") -> Tensor:
    """Returns a log-mel, not divided by the model's `mel_stats`, as `TorchMelSpectrogram` makes it.

    Args:
        samples: [num_samples] at 22.05 kHz.
        n_fft: 1024 for the DVAE, 2048 for the conditioning encoder; the window has 1024 samples.
        route: how the spectrum is made.

    Returns:
        float32 [80, 1 + num_samples // 256], on the device of the samples.

    Raises:
        InputError: there are no more than `n_fft / 2` samples.
    """
    window = torch.hann_window(WINDOW)
    power = power_spectrogram(samples[None], n_fft, WINDOW, HOP, window, route)[0]
    mel = _filters(n_fft).to(power.device).T @ power
    return mel.clamp(min=_SMALLEST_POWER).log()


@cache
def _filters(n_fft: int) -> Tensor:
    """Returns the mel filters [n_fft / 2 + 1, 80]."""
    filters: Tensor = torchaudio.functional.melscale_fbanks(
        n_fft // 2 + 1, 0.0, _TOP_HZ, NUM_MELS, TRAINING_RATE, norm="slaney", mel_scale="htk"
    )
    return filters


def _stored(mel: Tensor) -> npt.NDArray[np.float16]:
    """Frames first, so that a stretch of time is one piece of the file."""
    stored: npt.NDArray[np.float16] = mel.T.contiguous().half().cpu().numpy()
    return stored
