"""Reads a whole data set, checks every clip in parallel, and says whether it can be trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.data.audio_facts import AudioFacts
from train.data.base_model import BaseModel
from train.data.checks import CheckedClip, ClipChecker, read_facts, save_facts
from train.data.findings import Finding
from train.data.processes import map_in_processes, num_processes
from train.data.readers import read_data_set
from train.data.samples import DataSet, Sample
from train.data.texts import LanguageChoice, choose_language, text_key
from train.options import TrainingOptions

#: Fewer clips teach a voice nothing that can be checked.
MIN_CLIPS = 10
_FACTS_FILE = "audio_facts.json"

#: Told (done, total) while clips are checked.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Validation:
    """A data set and what was found out about each of its clips, in the order of the data set."""

    data: DataSet
    language: LanguageChoice
    clips: tuple[CheckedClip, ...]

    @property
    def usable(self) -> list[CheckedClip]:
        """The clips that can be trained on."""
        return [clip for clip in self.clips if clip.usable]

    @property
    def problem(self) -> str:
        """Why this data set can't be trained on and what to do, in one sentence; "" if it can."""
        if self.language.problem:
            return self.language.problem
        usable = self.usable
        num_all = len(self.clips) + len(self.data.bad_rows)
        if len(usable) < MIN_CLIPS:
            return (
                f"{len(usable)} of {num_all} clips can be used and at least {MIN_CLIPS} are "
                "needed: mend those that the report names, or record more."
            )
        if len({text_key(clip.sample.text) for clip in usable}) < 2:
            return (
                "All clips say the same text, so none can be held out to judge by: "
                "record other texts as well."
            )
        return ""


def validate_data(
    options: TrainingOptions,
    base: BaseModel,
    progress: Progress = lambda _done, _total: None,
) -> Validation:
    """Reads and checks all of DATA; recordings measured before are not measured again.

    Args:
        options: what to read and what to ask of it.
        base: the model that will be trained.
        progress: told how far it is.

    Raises:
        SettingsError: there is no data set.
        InputError: TRAIN_LANGUAGE is none of the model's.
    """
    data = read_data_set(options.data)
    unnamed = [s.text for s in data.samples if not s.language]
    language = choose_language(options.train_language, unnamed, base.languages)
    facts_path = options.train_cache_dir.absolute() / _FACTS_FILE
    checker = ClipChecker(
        base, language, options.train_min_clip_s, options.train_max_clip_s, facts_path
    )
    checked: list[CheckedClip] = []
    results = map_in_processes(
        checker,
        data.samples,
        workers=num_processes(options.data_workers),
        on_crash=lambda sample: _crashed(sample, language.code),
    )
    for clip in results:
        checked.append(clip)
        progress(len(checked), len(data.samples))
    _remember(facts_path, checked)
    return Validation(data, language, tuple(name_repeats(checked)))


def name_repeats(clips: Sequence[CheckedClip]) -> list[CheckedClip]:
    """Returns the clips with findings on those whose audio or text another one has.

    Of the same audio the first clip is kept. Takes of a text may stay; each is named with the
    first one.
    """
    audio: dict[str, str] = {}
    texts: dict[tuple[str, str], str] = {}
    return [_named(clip, audio, texts) if clip.usable else clip for clip in clips]


def _named(
    clip: CheckedClip, audio: dict[str, str], texts: dict[tuple[str, str], str]
) -> CheckedClip:
    """Returns the clip with what it repeats of those seen, and adds it to them."""
    name, sha256 = clip.sample.name, clip.facts.sha256
    if sha256 in audio:
        return clip.with_finding("duplicate_audio", f"{audio[sha256]} has the same audio")
    audio[sha256] = name
    key = (clip.sample.speaker, text_key(clip.sample.text))
    if key in texts:
        return clip.with_finding("take", f"{texts[key]} has the same text")
    texts[key] = name
    return clip


def _crashed(sample: Sample, language: str) -> CheckedClip:
    detail = "reading it ended the process; the file is damaged in a way that decoders can't stand"
    facts = AudioFacts(fault="unreadable", detail=detail)
    return CheckedClip(sample, language, facts, "", (), (Finding("unreadable", detail),))


def _remember(path: Path, clips: Sequence[CheckedClip]) -> None:
    facts = {clip.facts.sha256: clip.facts for clip in clips if clip.facts.sha256}
    if facts.keys() - read_facts(path).keys():
        save_facts(path, read_facts(path) | facts)
