"""What a recogniser hears: speech to text, to score synthesis with.

Knows the protocol, pocketsphinx (small, English, works offline) and faster-whisper (an optional
extra; its model is fetched once). Their absolute errors are high, so scores always stand beside
those of recordings or of another model.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from app.errors import SettingsError
from train.mels import resample

RecogniserName = Literal["auto", "pocketsphinx", "whisper", "none"]

_SPHINX_RATE = 16000
_WHISPER_RATE = 16000
#: XTTS's codes that Whisper has another name for.
_WHISPER_LANGUAGES = {"zh-cn": "zh"}
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
                "scoring by recognition needs pocketsphinx: pip install pocketsphinx."
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


class Whisper:
    """faster-whisper on the CPU, in int8.

    Args:
        model: a size such as `small`, or a folder.
        language: code of what will be said.
    """

    def __init__(self, model: str, language: str) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise SettingsError(
                "scoring by Whisper needs faster-whisper; install the extra: "
                "pip install 'audio-voice[scores-whisper]'."
            ) from error
        try:
            self._model: Any = WhisperModel(model, device="cpu", compute_type="int8")
        except Exception as error:  # the hub's, ctranslate2's and the file system's errors
            raise SettingsError(
                f"Whisper's model {model!r} can't be had ({str(error)[:200]}); name a folder in "
                "SCORE_WHISPER_MODEL, or set SCORE_RECOGNISER=none.",
                param="SCORE_WHISPER_MODEL",
            ) from error
        self._language = _WHISPER_LANGUAGES.get(language, language)

    def transcribe(self, samples: npt.NDArray[np.float32], sample_rate: int) -> str:
        """Returns the text of all segments."""
        tensor = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
        low = resample(tensor, sample_rate, _WHISPER_RATE).numpy()
        segments, _ = self._model.transcribe(low, language=self._language, beam_size=5)
        return " ".join(segment.text.strip() for segment in segments).lower()


@dataclass(frozen=True)
class RecogniserChoice:
    """Which recogniser listens, and why; `none` where none can."""

    name: RecogniserName
    reason: str


def choose_recogniser(wanted: RecogniserName, language: str) -> RecogniserChoice:
    """Returns what listens to a language; what was asked for is taken as it is."""
    if wanted != "auto":
        return RecogniserChoice(wanted, f"SCORE_RECOGNISER={wanted}")
    if importlib.util.find_spec("faster_whisper") is not None:
        return RecogniserChoice("whisper", "faster-whisper is installed and knows every language")
    if language == "en" and importlib.util.find_spec("pocketsphinx") is not None:
        return RecogniserChoice("pocketsphinx", "the texts are English")
    return RecogniserChoice(
        "none",
        f"nothing that is installed understands {language!r}: the extra scores-whisper does",
    )


def open_recogniser(
    choice: RecogniserChoice, language: str, whisper_model: str
) -> Transcriber | None:
    """Returns the recogniser that was chosen; None for `none`.

    Raises:
        SettingsError: it is not installed, or its model can't be had.
    """
    if choice.name == "whisper":
        return Whisper(whisper_model, language)
    return PocketSphinx() if choice.name == "pocketsphinx" else None
