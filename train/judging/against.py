"""Speech held against recordings: the recogniser's own errors, whose voice it is, copy synthesis.

Whatever can't be measured is left out with its reason; nothing is skipped silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import ModelFileError
from app.models.bundles import Bundle
from train.evaluation import Evaluation, Sentence
from train.judging.copy_synthesis import CopySynthesis
from train.judging.recordings import RATE, Recordings
from train.judging.speaker import SpeakerModels
from train.judging.speaking import Samples
from train.scores import ErrorCount, character_errors, word_errors
from train.transcribe import Transcriber

_COPIED = 12


@dataclass
class Comparison:
    """Figures that need recordings; those that could not be had are missing, with the reason."""

    figures: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns both as plain data."""
        rounded = {name: round(value, 4) for name, value in self.figures.items()}
        return rounded | ({"left_out": self.left_out} if self.left_out else {})


def compare(
    evaluation: Evaluation,
    sentences: Sequence[Sentence],
    recordings: Recordings,
    transcriber: Transcriber,
    *,
    bundle: Bundle | None,
    language: str = "en",
) -> Comparison:
    """Returns every figure that the recordings allow.

    Args:
        evaluation: what was spoken of `sentences`.
        sentences: what was to be said.
        recordings: of the same sentences by the voice's own speaker, and of other speakers.
        transcriber: the one that heard the speech.
        bundle: the model, for copy synthesis; None where it is not at hand.
        language: of the sentences.
    """
    found = Comparison()
    if not recordings.own:
        why = "no recordings of the speaker were given"
        found.left_out = dict.fromkeys(("recording_wer", "speaker_nearest", "copy_mel"), why)
        return found
    _add_errors(found, sentences, recordings.own, transcriber)
    if recordings.others:
        _add_speaker(found, evaluation, recordings)
    else:
        found.left_out["speaker_nearest"] = "no recordings of another speaker were given"
    if bundle is None:
        found.left_out["copy_mel"] = "the model's files are not at hand"
    else:
        _add_copies(found, evaluation.scores.voice, sentences, recordings.own, bundle, language)
    return found


def _add_errors(
    found: Comparison,
    sentences: Sequence[Sentence],
    own: Mapping[str, Samples],
    transcriber: Transcriber,
) -> None:
    words, characters = ErrorCount(0, 0), ErrorCount(0, 0)
    for sentence in sentences:
        if sentence.name in own:
            heard = transcriber.transcribe(own[sentence.name], RATE)
            words += word_errors(sentence.text, heard)
            characters += character_errors(sentence.text, heard)
    found.figures |= {"recording_wer": words.rate, "recording_cer": characters.rate}


def _add_speaker(found: Comparison, evaluation: Evaluation, recordings: Recordings) -> None:
    """Adds whose voice the speech is, and the same of recordings that the fit has not seen."""
    claimed = evaluation.scores.voice
    others = {name: clips for name, clips in recordings.others.items() if name != claimed}
    own = list(recordings.own.values())
    spoken = [samples for samples in evaluation.spoken if samples is not None]
    models = SpeakerModels({claimed: own, **others}, RATE)
    verdicts = [models.judge(samples, evaluation.sample_rate, claimed) for samples in spoken]
    if verdicts:
        found.figures |= {
            "speaker_nearest": sum(v.nearest == claimed for v in verdicts) / len(verdicts),
            "speaker_margin": sum(v.margin for v in verdicts) / len(verdicts),
            "speaker_smallest_margin": min(v.margin for v in verdicts),
        }
    halves = own[::2], own[1::2]
    if all(halves):
        unseen = []
        for fitted, judged in (halves, halves[::-1]):
            models = SpeakerModels({claimed: fitted, **others}, RATE)
            unseen += [models.judge(clip, RATE, claimed) for clip in judged]
        found.figures |= {
            "recording_speaker_nearest": sum(v.nearest == claimed for v in unseen) / len(unseen),
            "recording_speaker_margin": sum(v.margin for v in unseen) / len(unseen),
        }


def _add_copies(
    found: Comparison,
    voice: str,
    sentences: Sequence[Sentence],
    own: Mapping[str, Samples],
    bundle: Bundle,
    language: str,
) -> None:
    try:
        copies = CopySynthesis(bundle, voice, language)
    except ModelFileError as error:
        found.left_out["copy_mel"] = error.message
        return
    chosen = [sentence for sentence in sentences if sentence.name in own][:_COPIED]
    distances = [copies.distance(s.text, own[s.name]) for s in chosen]
    found.figures["copy_mel"] = sum(distances) / len(distances)
