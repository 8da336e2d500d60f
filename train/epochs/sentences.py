"""Which sentence is spoken after every epoch, in whose voice, and which texts are scored.

Chosen by content alone, so the same clips give the same choice in every run. All of it comes from
the clips that are held out: what the model has learnt by heart tells nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from app.errors import SettingsError
from app.settings import Settings
from app.text.sentences import sentences_for
from train.data.prepared import PreparedClip, PreparedClips
from train.epochs.job import ListenPlan, ScoredText
from train.options import TrainingOptions

#: Length of a reference that gives a full prompt (`gpt_cond_len` is 12 s, of which 4 s a chunk,
#: and clips are cut at 10 s), in seconds.
_GOOD_REFERENCE_S = 6.0


def plan_listening(
    clips: PreparedClips, base_model: str, settings: Settings, options: TrainingOptions
) -> ListenPlan:
    """Returns what every epoch's checkpoint will be asked to say.

    Args:
        clips: of this run.
        base_model: what training starts from, as `find_bundle` takes it.
        settings: where models are, and how often bad audio is made again.
        options: the sentence, the seed, how many texts are scored.

    Raises:
        SettingsError: no clip is held out.
    """
    held_out = clips.side("eval")
    if not held_out:
        raise SettingsError("No clip is held out; set EVAL_SHARE above 0.", param="EVAL_SHARE")
    speaker = main_speaker(clips)
    own = [clip for clip in held_out if clip.speaker == speaker] or held_out
    reference = choose_reference(own)
    # The model must not be able to repeat its prompt and look good: other texts than the prompt's.
    others = [clip for clip in own if clip.text != reference.text] or own
    language = reference.language
    return ListenPlan(
        base_model=base_model,
        models_dir=str(settings.models_dir.absolute()),
        text=options.sample_text.strip() or _sentence_in(language) or others[0].text,
        language=language,
        seed=options.sample_seed,
        reference=reference.audio,
        speaker=speaker or _name_of(options.data),
        data=_name_of(options.data),
        hours=round(sum(clip.duration_s for clip in clips.side("train")) / 3600, 4),
        scored=_scored(others, options.score_sentences),
        retries=settings.output_retries,
        recogniser=options.score_recogniser,
        whisper_model=options.score_whisper_model,
    )


def main_speaker(clips: PreparedClips) -> str:
    """Returns who speaks most, in seconds."""
    seconds: Counter[str] = Counter()
    for clip in clips:
        seconds[clip.speaker] += round(clip.duration_s)
    return seconds.most_common(1)[0][0]


def choose_reference(clips: Sequence[PreparedClip]) -> PreparedClip:
    """Returns the clip of the best length for a reference; by content where two are as good."""
    return min(clips, key=lambda clip: (abs(clip.duration_s - _GOOD_REFERENCE_S), clip.key))


def _sentence_in(language: str) -> str:
    """Returns a sentence that is the same for every voice; empty for a language without one."""
    known, (_, sentence, *_) = sentences_for((language, "en"))
    return sentence if known == language else ""


def _name_of(data: Path) -> str:
    """Returns what a data set is called: its folder, or the table's without its ending."""
    return data.absolute().stem


def _scored(clips: Sequence[PreparedClip], count: int) -> tuple[ScoredText, ...]:
    """Returns the first texts in the order of the split, which is by hash; each text once."""
    by_text = {clip.text: clip for clip in reversed(clips)}
    chosen = [clip for clip in clips if by_text[clip.text] is clip][:count]
    return tuple(
        ScoredText(clip.name, clip.text, clip.language, clip.audio, round(clip.duration_s, 3))
        for clip in chosen
    )
