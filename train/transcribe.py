"""What a recogniser hears: speech to text, to score synthesis with.

Knows the protocol and pocketsphinx (small, English, works offline, an optional extra). Its
absolute error is high, so scores always stand beside those of recordings.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from app.errors import SettingsError
from train.mels import resample

_SPHINX_RATE = 16000
_PEAK = 0.6
_PAD_S = 0.2


class Transcriber(Protocol):
    """Turns speech into words."""

    def transcribe(self, samples: npt.NDArray[np.float32], sample_rate: int) -> str:
        """Returns what is heard, lower case."""
        ...


class PocketSphinx:
    """pocketsphinx with its own English model."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise SettingsError(
                "scoring by recognition needs pocketsphinx; install the extra: "
                "pip install 'audio-voice[scores]'."
            ) from error
        self._decoder: Any = Decoder(samprate=_SPHINX_RATE, logfn=os.devnull)

    def transcribe(self, samples: npt.NDArray[np.float32], sample_rate: int) -> str:
        """Returns the best hypothesis, or an empty text."""
        tensor = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
        low = resample(tensor, sample_rate, _SPHINX_RATE).numpy()
        low = low * (_PEAK / max(float(np.abs(low).max(initial=0.0)), 1e-4))
        low = np.pad(low, int(_PAD_S * _SPHINX_RATE))
        pcm = (np.clip(low, -1, 1) * 32767).astype(np.int16).tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return str(found.hypstr) if found is not None else ""
