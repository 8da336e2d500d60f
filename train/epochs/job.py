"""What one epoch's checkpoint is to say, and what became of it: plain data, also between processes.

Everything but the weights is the same in every epoch of a run, so that the epochs can be compared.
Needs no torch.
"""

from __future__ import annotations

from statistics import fmean
from typing import Literal

import msgspec

from train.scores import ErrorCount

#: Values of SCORE_RECOGNISER; `train.transcribe` knows them, and needs torch.
RecogniserName = Literal["auto", "pocketsphinx", "whisper", "none"]
#: The starting model, before the first epoch.
BEFORE_TRAINING = 0


class ScoredText(msgspec.Struct, frozen=True):
    """A held-out text with its recording, which lasts `recorded_s` seconds."""

    name: str
    text: str
    language: str
    recording: str
    recorded_s: float


class ListenPlan(msgspec.Struct, frozen=True):
    """What stays the same from epoch to epoch.

    `base_model` and `models_dir` find the bundle that training starts from, whose vocabulary and
    settings every checkpoint shares. `reference` is the clip whose voice is spoken in; `speaker`
    names whose it is. `data` names the clips of the run, of which `hours` are learnt from.
    """

    base_model: str
    models_dir: str
    text: str
    language: str
    seed: int
    reference: str
    speaker: str
    data: str
    hours: float
    scored: tuple[ScoredText, ...]
    retries: int
    recogniser: RecogniserName
    whisper_model: str


class ListenJob(msgspec.Struct, frozen=True):
    """One epoch's work. `weights` is its checkpoint; empty for the starting model itself.

    `spoken` is a folder where the speech was left already; empty where it is still to be made.
    """

    epoch: int
    weights: str
    plan: ListenPlan
    folder: str
    threads: int
    spoken: str = ""


class Sample(msgspec.Struct, frozen=True):
    """The sample of an epoch. `verdict` is `ok`, `retried` or `failed`; `notes` say why."""

    verdict: str
    notes: tuple[str, ...] = ()
    duration_s: float = 0.0
    seconds: float = 0.0


class TextScore(msgspec.Struct, frozen=True):
    """What became of one scored text.

    Attributes:
        characters, words: edits and units; None where nothing listened.
        similarity: cosine to the speaker's recordings; None where there is no audio.
        fault: `over-long`, `cut`, `silent`, `refused` or empty.
    """

    name: str
    text: str
    heard: str
    duration_s: float
    recorded_s: float
    characters: tuple[int, int] | None
    words: tuple[int, int] | None
    similarity: float | None
    fault: str

    @property
    def value(self) -> float:
        """How good it is, in [-2, 1]: similarity, less the character errors, less a fault.

        The three are shares of the same size, and weigh the same.
        """
        errors = ErrorCount(*self.characters).rate if self.characters else 0.0
        return (self.similarity or 0.0) - min(1.0, errors) - (1.0 if self.fault else 0.0)


class Listened(msgspec.Struct, frozen=True):
    """All that one epoch's checkpoint said. `notes` name what could not be scored, and why."""

    epoch: int
    sample: Sample
    texts: tuple[TextScore, ...] = ()
    notes: tuple[str, ...] = ()
    recogniser: str = ""

    @property
    def figures(self) -> dict[str, float]:
        """The scores over all texts, by name; empty where nothing was scored."""
        if not self.texts:
            return {}
        count = len(self.texts)
        faults = ("over-long", "cut", "silent", "refused")
        found = {
            fault.replace("-", "_") + "_rate": sum(t.fault == fault for t in self.texts) / count
            for fault in faults
        }
        spoken = [text for text in self.texts if text.duration_s]
        if recorded_s := sum(text.recorded_s for text in spoken):
            found["duration_ratio"] = sum(text.duration_s for text in spoken) / recorded_s
        if similar := [text.similarity for text in self.texts if text.similarity is not None]:
            found["speaker_similarity_own_encoder"] = fmean(similar)
        for name in ("characters", "words"):
            counts = [ErrorCount(*c) for t in self.texts if (c := getattr(t, name)) is not None]
            if counts:
                key = "character_error_rate" if name == "characters" else "word_error_rate"
                found[key] = sum(counts, ErrorCount(0, 0)).rate
        found["value"] = fmean(text.value for text in self.texts)
        return found


def figures_in_words(figures: dict[str, float]) -> list[str]:
    """Returns scores as people read them; faults only where there are any."""
    shares = {
        "character_error_rate": "characters wrong",
        "word_error_rate": "words wrong",
        "over_long_rate": "too long",
        "cut_rate": "cut short",
        "silent_rate": "silent",
        "refused_rate": "refused",
    }
    words = [
        f"{figures[name]:.0%} {said}"
        for name, said in shares.items()
        if name in figures and (figures[name] or name.endswith("error_rate"))
    ]
    if "speaker_similarity_own_encoder" in figures:
        words.append(f"speaker {figures['speaker_similarity_own_encoder']:.2f}")
    if "duration_ratio" in figures:
        words.append(f"{figures['duration_ratio']:.2f} times as long as recorded")
    if "value" in figures:
        words.append(f"value {figures['value']:.3f}")
    return words
