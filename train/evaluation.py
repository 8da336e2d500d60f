"""Scores of a voice: held-out sentences, spoken as the service speaks them, as heard.

Knows how a sentence file looks (`id|text|seconds of the recording`) and which figures are kept.
The recogniser's own errors on the recordings belong beside every figure here.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import SettingsError
from train.judging.speaking import Samples, Speaking
from train.scores import ErrorCount, character_errors, word_errors
from train.transcribe import Transcriber

_OVER_LONG, _CUT = 1.8, 0.5
_SILENT_RMS = 1e-3


@dataclass(frozen=True)
class Sentence:
    """A sentence no stage has trained on."""

    name: str
    text: str
    recorded_s: float
    """Length of a recording of it; 0 where there is none."""


@dataclass(frozen=True)
class Heard:
    """What became of one sentence."""

    name: str
    text: str
    heard: str
    duration_s: float
    words: ErrorCount
    characters: ErrorCount
    fault: str
    """`over-long`, `cut`, `silent`, `refused` or empty."""


@dataclass(frozen=True)
class Scores:
    """Figures over all sentences; rates are shares."""

    voice: str
    sentences: int
    wer: float
    cer: float
    over_long: float
    cut: float
    silent: float
    refused: float
    duration_ratio: float
    real_time_factor: float

    def as_dict(self) -> dict[str, Any]:
        """Returns the figures as plain data, rounded."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def read_sentences(path: Path) -> list[Sentence]:
    """Reads `id|text|seconds` lines.

    Raises:
        SettingsError: the file is missing or a line does not fit.
    """
    if not path.is_file():
        raise SettingsError(f"{path} does not exist; name a file of id|text|seconds lines.")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, delimiter="|", quoting=csv.QUOTE_NONE))
    if any(len(row) != 3 for row in rows):
        raise SettingsError(f"{path}: each line must be id|text|seconds.")
    return [Sentence(name, text, float(seconds)) for name, text, seconds in rows]


@dataclass(frozen=True)
class Evaluation:
    """What was spoken and what was heard of it."""

    scores: Scores
    results: list[Heard]
    spoken: list[Samples | None]
    """Samples [n] of each sentence; None where it was refused."""
    sample_rate: int


def evaluate(
    speaking: Speaking, sentences: Sequence[Sentence], transcriber: Transcriber, *, seed: int = 1
) -> Evaluation:
    """Speaks every sentence and lets a recogniser listen.

    Args:
        speaking: a voice, in this process or through a service.
        sentences: what to say.
        transcriber: what listens.
        seed: the same seed gives the same speech.

    Raises:
        AudioVoiceError: the service does not answer, or not to such requests.
    """
    started = time.monotonic()
    spoken = [speaking.speak(s.name, s.text, seed) for s in sentences]
    seconds = time.monotonic() - started
    rate = speaking.sample_rate
    results = [
        listen(sentence, samples, rate, transcriber)
        for sentence, samples in zip(sentences, spoken, strict=True)
    ]
    scores = summarise(results, sentences, speaking.voice, seconds)
    return Evaluation(scores, results, spoken, rate)


def listen(
    sentence: Sentence,
    samples: Samples | None,
    rate: int,
    transcriber: Transcriber,
) -> Heard:
    """Lets a recogniser listen to one sentence; `samples` are None where it was refused."""
    duration_s = 0.0 if samples is None else len(samples) / rate
    heard = "" if samples is None else transcriber.transcribe(samples, rate)
    return Heard(
        sentence.name,
        sentence.text,
        heard,
        duration_s,
        word_errors(sentence.text, heard),
        character_errors(sentence.text, heard),
        fault_of(sentence, samples, duration_s),
    )


def fault_of(sentence: Sentence, samples: Samples | None, duration_s: float) -> str:
    """Returns what can be told without listening, as `Heard.fault`."""
    if samples is None:
        return "refused"
    if float(np.sqrt(np.mean(samples**2))) < _SILENT_RMS:
        return "silent"
    if sentence.recorded_s and duration_s > _OVER_LONG * sentence.recorded_s:
        return "over-long"
    if sentence.recorded_s and duration_s < _CUT * sentence.recorded_s:
        return "cut"
    return ""


def summarise(
    results: Sequence[Heard], sentences: Sequence[Sentence], voice: str, seconds: float
) -> Scores:
    """Returns the figures of all results; `seconds` is what speaking them took."""
    count = max(1, len(results))
    spoken = sum(result.duration_s for result in results)
    recorded = sum(s.recorded_s for s, r in zip(sentences, results, strict=True) if r.duration_s)
    shares = {
        fault: sum(result.fault == fault for result in results) / count
        for fault in ("over-long", "cut", "silent", "refused")
    }
    return Scores(
        voice=voice,
        sentences=len(results),
        wer=sum((r.words for r in results), ErrorCount(0, 0)).rate,
        cer=sum((r.characters for r in results), ErrorCount(0, 0)).rate,
        over_long=shares["over-long"],
        cut=shares["cut"],
        silent=shares["silent"],
        refused=shares["refused"],
        duration_ratio=spoken / recorded if recorded else 0.0,
        real_time_factor=seconds / spoken if spoken else 0.0,
    )
