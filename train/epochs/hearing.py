"""What spoken texts are worth: errors as a recogniser hears them, similarity, length, faults.

Similarity is the cosine between embeddings of the starting model's own speaker encoder, which
fine-tuning does not change: of what was spoken, and of the speaker's recordings of the scored
texts. It judges a model with a part of that model, so it says where a run is going, and cannot be
compared between models.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from app.audio.clip import Clip
from app.errors import AudioVoiceError, SettingsError
from app.models.conditioning import Conditioner
from app.models.config import read_config
from app.models.weights import read_state
from train.epochs.job import ListenPlan, ScoredText, TextScore
from train.epochs.speaking import Speech, find_checkpoint, read_reference
from train.evaluation import Sentence, fault_of
from train.scores import ErrorCount, character_errors, word_errors
from train.transcribe import Transcriber, choose_recogniser, open_recogniser


def score_texts(
    plan: ListenPlan, speeches: dict[str, Speech], alive: Callable[[str], None]
) -> tuple[tuple[TextScore, ...], str, tuple[str, ...]]:
    """Scores what was spoken.

    Args:
        plan: the texts and their recordings.
        speeches: by the texts' names.
        alive: told before each text.

    Returns:
        The scores, the recogniser's name, and what could not be measured, in words.

    Raises:
        AudioVoiceError: the starting model can't be read.
    """
    ears, name, notes = _open_ears(plan)
    speaker = SpeakerSimilarity(plan)
    scores = []
    for number, text in enumerate(plan.scored, start=1):
        alive(f"hearing, {number} of {len(plan.scored)} texts")
        scores.append(_score(text, speeches[text.name], ears, speaker))
    return tuple(scores), name, (*notes, *speaker.notes)


class SpeakerSimilarity:
    """Compares speech with the mean of the speaker's recordings; `notes` name those not read."""

    def __init__(self, plan: ListenPlan) -> None:
        bundle = find_checkpoint(plan, "")
        config = read_config(bundle.config, bundle.decoder)
        self._encoder = Conditioner.from_state_dict(
            read_state(bundle.weights), config, bundle.weights
        )
        self.notes: list[str] = []
        found = [e for text in plan.scored if (e := self._embed_recording(text)) is not None]
        self._wanted = torch.stack(found).mean(dim=0) if found else None

    def __call__(self, speech: Clip) -> float | None:
        """Returns the cosine, in [-1, 1]; None where there is nothing to compare."""
        if self._wanted is None:
            return None
        try:
            heard = self._embed(speech)
        except AudioVoiceError:  # too short or silent, which is told as a fault
            return None
        return float(torch.nn.functional.cosine_similarity(heard, self._wanted, dim=0))

    def _embed_recording(self, text: ScoredText) -> Tensor | None:
        try:
            return self._embed(read_reference(text.recording))
        except AudioVoiceError as error:
            self.notes.append(f"similarity is not held to {text.name}: {error.message}")
            return None

    def _embed(self, clip: Clip) -> Tensor:
        return self._encoder.encode(clip.samples, clip.sample_rate).speaker_embedding.flatten()


def _open_ears(plan: ListenPlan) -> tuple[Transcriber | None, str, tuple[str, ...]]:
    choice = choose_recogniser(plan.recogniser, plan.language)
    try:
        ears = open_recogniser(choice, plan.language, plan.whisper_model)
    except SettingsError as error:
        return None, "", (f"no error rates: {error.message}",)
    if ears is None:
        return None, "", (f"no error rates: {choice.reason}",)
    return ears, choice.name, ()


def _score(
    text: ScoredText, speech: Speech, ears: Transcriber | None, similarity: SpeakerSimilarity
) -> TextScore:
    samples, rate = speech.samples, speech.sample_rate
    duration_s = 0.0 if samples is None else len(samples) / rate
    heard = ears.transcribe(samples, rate) if ears and samples is not None else ""
    return TextScore(
        name=text.name,
        text=text.text,
        heard=heard,
        duration_s=round(duration_s, 3),
        recorded_s=text.recorded_s,
        characters=_pair(character_errors(text.text, heard)) if ears else None,
        words=_pair(word_errors(text.text, heard)) if ears else None,
        similarity=None if samples is None else similarity(Clip(samples, rate)),
        fault=fault_of(Sentence(text.name, text.text, text.recorded_s), samples, duration_s),
    )


def _pair(count: ErrorCount) -> tuple[int, int]:
    return count.edits, count.units
