"""Judges one clip: its recording, its text, and whether the two fit. Runs in worker processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from app.audio.pace import plausible_duration
from app.audio.validate import MAX_CLIPPED_SHARE
from app.errors import InputError
from app.files import write_atomic
from app.text.languages import resolve_language
from train.data.audio_facts import FACTS_VERSION, STEADY_TAIL_S, AudioFacts, measure_file
from train.data.base_model import BaseModel, load_tokenizer
from train.data.findings import Finding
from train.data.samples import Sample
from train.data.texts import LanguageChoice, ReadText, read_text

#: More silence before or after the speech is learnt as part of it, in seconds. Of 2,930 clips of
#: two carefully cut public sets, four have more.
MAX_EDGE_S = 1.0
MAX_PAUSE_S = 2.0
#: Below this the upper half of the model's 8 kHz of mel bands is empty, in Hz.
LOW_RATE = 16000
#: Speech that is so little above its background is learnt with it; the sets above have 18 to 55 dB.
MIN_NOISE_DISTANCE_DB = 12.0


@dataclass(frozen=True)
class CheckedClip:
    """A clip with all that was found out about it."""

    sample: Sample
    language: str
    facts: AudioFacts
    spoken: str
    token_ids: tuple[int, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it can be learnt from."""
        return not any(finding.stops for finding in self.findings)

    def with_finding(self, kind: str, detail: str) -> CheckedClip:
        """Returns the same clip with one finding more."""
        return replace(self, findings=(*self.findings, Finding(kind, detail)))


@dataclass(frozen=True)
class ClipChecker:
    """Checks clips; small, so that it can be sent to processes.

    Attributes:
        base: the model that will learn from them.
        language: of clips that name none.
        min_s, max_s: shortest and longest clip, in seconds.
        facts_path: where earlier measurements lie, or None.
    """

    base: BaseModel
    language: LanguageChoice
    min_s: float
    max_s: float
    facts_path: Path | None = None

    def __call__(self, sample: Sample) -> CheckedClip:
        """Reads a clip and returns it with every fault it has; never raises for a clip's fault."""
        known = _known_facts(self.facts_path) if self.facts_path else None
        facts = measure_file(sample.audio, known)
        language, text = self._read(sample)
        findings = [*self._audio_findings(facts), *text.findings]
        clip = CheckedClip(sample, language, facts, text.spoken, text.token_ids)
        if not any(finding.stops for finding in findings):
            findings += _misfits(clip)
        return replace(clip, findings=tuple(findings))

    def _read(self, sample: Sample) -> tuple[str, ReadText]:
        language, reads_like = self.language.code, self.language.reads_like
        if sample.language:
            try:
                language = resolve_language(sample.language, self.base.languages)
                reads_like = language
            except InputError as error:
                return language, ReadText(findings=(Finding("wrong_language", error.message),))
        tokenizer = load_tokenizer(self.base.vocab, self.base.front_end)
        limit = self.base.max_text_tokens
        return language, read_text(
            sample.text, language, tokenizer, reads_like=reads_like, max_tokens=limit
        )

    def _audio_findings(self, facts: AudioFacts) -> Iterator[Finding]:
        if facts.fault:
            yield Finding(facts.fault, facts.detail)
            return
        longest_s = min(self.max_s, self.base.max_clip_s)
        if facts.duration_s < self.min_s:
            yield Finding("too_short", f"{facts.duration_s:.2f} s, at least {self.min_s:g} s")
        if facts.duration_s > longest_s:
            whose = "TRAIN_MAX_CLIP_S" if longest_s == self.max_s else "the model's limit"
            yield Finding("too_long", f"{facts.duration_s:.1f} s, {whose} is {longest_s:.1f} s")
        yield from _sound_findings(facts)


def _sound_findings(facts: AudioFacts) -> Iterator[Finding]:
    if facts.clipped_share > MAX_CLIPPED_SHARE:
        yield Finding("clipped", f"{facts.clipped_share:.1%} of its samples are at full scale")
    if facts.noise_tail_s >= STEADY_TAIL_S:
        yield Finding("noise_tail", f"it ends in {facts.noise_tail_s:.1f} s of steady noise")
    elif facts.ends_in_click:
        yield Finding("noise_tail", "after a pause it ends in a click or a piece of a word")
    for where, edge_s in (("before", facts.leading_s), ("after", facts.trailing_s)):
        if edge_s > MAX_EDGE_S:
            yield Finding("long_edges", f"{edge_s:.1f} s of silence {where} the speech")
    if facts.inner_s > MAX_PAUSE_S:
        yield Finding("long_pause", f"{facts.inner_s:.1f} s")
    if facts.sample_rate < LOW_RATE:
        yield Finding("low_rate", f"{facts.sample_rate} Hz")
    if facts.noise_distance_db < MIN_NOISE_DISTANCE_DB:
        yield Finding("noisy", f"speech is {facts.noise_distance_db:.0f} dB above the background")


def _misfits(clip: CheckedClip) -> Iterator[Finding]:
    """Compares how long the speech is with how long its text can take."""
    plausible = plausible_duration(clip.spoken, clip.language)
    sounding_s = clip.facts.duration_s - clip.facts.leading_s - clip.facts.trailing_s
    if sounding_s < plausible.shortest_s:
        takes = f"the text takes at least {plausible.shortest_s:.1f} s"
    elif sounding_s > plausible.longest_s:
        takes = f"the text takes at most {plausible.longest_s:.1f} s"
    else:
        return
    yield Finding("implausible_rate", f"{sounding_s:.1f} s of speech, where {takes}")


def save_facts(path: Path, facts: dict[str, AudioFacts]) -> None:
    """Writes measurements, by the hash of the recording, for the next time."""
    rows = {sha256: asdict(item) for sha256, item in sorted(facts.items())}
    content = {"version": FACTS_VERSION, "facts": rows}
    write_atomic(path, json.dumps(content, indent=0).encode())


def read_facts(path: Path) -> dict[str, AudioFacts]:
    """Reads what `save_facts` wrote; nothing where it is absent, damaged or of another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != FACTS_VERSION:
            return {}
        return {sha256: AudioFacts(**item) for sha256, item in content["facts"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@lru_cache(maxsize=1)
def _known_facts(path: Path) -> dict[str, AudioFacts]:
    """`read_facts`, once for each process; a stale answer only means measuring again."""
    return read_facts(path)
