"""The figures of a validated data set, as plain values for a page, a terminal or JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from train.data.checks import CheckedClip
from train.data.findings import RULES, explain
from train.data.split import Split
from train.data.validation import Validation

_NO_SPEAKER = "(none named)"


@dataclass(frozen=True)
class Summary:
    """What a report says of the whole. Times in hours; counts of clips."""

    num_clips: int
    num_usable: int
    hours: float
    usable_hours: float
    speakers: dict[str, int]
    languages: dict[str, int]
    findings: dict[str, int]

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The totals as (name, value) for people."""
        return [
            ("clips", str(self.num_clips)),
            ("usable", f"{self.num_usable} ({self.usable_hours:.2f} h of {self.hours:.2f} h)"),
            ("not usable", str(self.num_clips - self.num_usable)),
            ("speakers", _counted(self.speakers)),
            ("languages", _counted(self.languages)),
        ]


def summarise(validation: Validation) -> Summary:
    """Counts a validated data set; lines that describe no clip count as clips not usable."""
    usable = validation.usable
    counts = Counter(f.kind for clip in validation.clips for f in clip.findings)
    counts["bad_row"] += len(validation.data.bad_rows)
    return Summary(
        num_clips=len(validation.clips) + len(validation.data.bad_rows),
        num_usable=len(usable),
        hours=_hours(list(validation.clips)),
        usable_hours=_hours(usable),
        speakers=dict(Counter(c.sample.speaker or _NO_SPEAKER for c in usable).most_common()),
        languages=dict(Counter(c.language for c in usable).most_common()),
        findings={kind: counts[kind] for kind in RULES if counts[kind]},
    )


def as_json(validation: Validation, split: Split | None) -> dict[str, Any]:
    """Returns the result of `validate` for programs."""
    summary = summarise(validation)
    return {
        "usable": not validation.problem,
        "problem": validation.problem,
        "format": validation.data.format,
        "reason": validation.data.reason,
        "notes": list(validation.data.notes),
        "language": validation.language.code,
        "language_reason": validation.language.reason,
        "num_clips": summary.num_clips,
        "num_usable": summary.num_usable,
        "hours": round(summary.hours, 4),
        "usable_hours": round(summary.usable_hours, 4),
        "num_train": len(split.train) if split else 0,
        "num_eval": len(split.eval) if split else 0,
        "num_left_out": len(split.left_out) if split else 0,
        "speakers": summary.speakers,
        "languages": summary.languages,
        "findings": summary.findings,
        "not_usable": [row for row in rows_of(validation) if row["stops"]],
    }


def rows_of(validation: Validation) -> list[dict[str, Any]]:
    """Returns one row for each finding: clip, place, kind, whether it stops, and the sentence."""
    rows = [
        {
            "clip": row.listed_in if not row.line else row.place,
            "place": row.place,
            "kind": "bad_row",
            "stops": True,
            "says": f"{row.fault}. Remedy: {row.remedy}.",
        }
        for row in validation.data.bad_rows
    ]
    rows += [
        {
            "clip": clip.sample.name,
            "place": f"{clip.sample.listed_in}:{clip.sample.line}",
            "kind": finding.kind,
            "stops": finding.stops,
            "says": explain(finding),
        }
        for clip in validation.clips
        for finding in clip.findings
    ]
    return rows


def _hours(clips: list[CheckedClip]) -> float:
    return sum(clip.facts.duration_s for clip in clips) / 3600


def _counted(counts: dict[str, int], most: int = 8) -> str:
    shown = [f"{name} {count}" for name, count in list(counts.items())[:most]]
    more = [f"and {len(counts) - most} more"] if len(counts) > most else []
    return ", ".join(shown + more) or "none"
