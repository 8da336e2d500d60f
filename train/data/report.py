"""The page that `validate` leaves: totals, histograms, and every clip with a fault and its remedy.

One HTML file without scripts, fonts or pictures from elsewhere, so that it can be mailed.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from app.files import write_atomic
from train.data.checks import CheckedClip
from train.data.findings import RULES
from train.data.histogram import histogram_svg
from train.data.split import Split
from train.data.summary import Summary, rows_of, summarise
from train.data.validation import Validation

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; }
body { padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid; }
td { border-bottom: 1px solid #8884; overflow-wrap: anywhere; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
.verdict { font-weight: bold; padding: .6rem 1rem; border-left: .4rem solid #3a3; }
.verdict.bad { border-color: #c33; }
"""


def write_report(path: Path, validation: Validation, split: Split | None) -> None:
    """Writes the page; a page that is there is replaced."""
    write_atomic(path, report_page(validation, split).encode())


def report_page(validation: Validation, split: Split | None) -> str:
    """Returns the page as HTML."""
    data, summary = validation.data, summarise(validation)
    rows = rows_of(validation)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Data report</title>",
        f"<style>{_STYLE}</style><h1>Data report: {escape(str(data.root.name))}</h1>",
        _verdict(validation, split),
        f"<p>Read as {escape(data.format)}: {escape(data.reason)}. Language of clips that name "
        f"none: {escape(validation.language.code)} ({escape(validation.language.reason)}).</p>",
        *(f"<p>Note: {escape(note)}</p>" for note in data.notes),
        _table(("", ""), summary.lines),
        _kinds(summary),
        '<h2>How they are distributed</h2><div class="pictures">',
        *_pictures(validation.usable),
        "</div>",
        "<h2>Clips that can't be used</h2>",
        _rows([row for row in rows if row["stops"]]),
        "<h2>Clips that are used, with a word</h2>",
        _rows([row for row in rows if not row["stops"]]),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _verdict(validation: Validation, split: Split | None) -> str:
    if validation.problem:
        return f'<p class="verdict bad">{escape(validation.problem)}</p>'
    words = f"This can be trained on. {split.summary}" if split else "This can be trained on."
    return f'<p class="verdict">{escape(words)}</p>'


def _kinds(summary: Summary) -> str:
    rows = [
        (str(count), RULES[kind].title, "kept out" if RULES[kind].stops else "used", remedy)
        for kind, count in summary.findings.items()
        if (remedy := RULES[kind].remedy)
    ]
    return _table(("clips", "what", "", "remedy"), rows) if rows else "<p>No faults found.</p>"


def _rows(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "<p>None.</p>"
    cells = [(str(row["clip"]), str(row["place"]), str(row["says"])) for row in rows]
    return _table(("clip", "where", "what, and the remedy"), cells)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table>{f'<tr>{head}</tr>' if any(header) else ''}{body}</table>"


def _pictures(clips: Sequence[CheckedClip]) -> list[str]:
    letters = [sum(char.isalpha() for char in clip.spoken) for clip in clips]
    spoken_s = [c.facts.duration_s - c.facts.leading_s - c.facts.trailing_s for c in clips]
    rates = [count / max(0.1, time_s) for count, time_s in zip(letters, spoken_s, strict=True)]
    kinds = (
        ([c.facts.duration_s for c in clips], "Length", "seconds"),
        ([float(len(c.token_ids)) for c in clips], "Text", "tokens"),
        (rates, "Pace", "letters per second"),
        ([c.facts.loudest_dbfs for c in clips], "Loudest moment", "dBFS"),
        ([c.facts.noise_distance_db for c in clips], "Speech above background", "dB"),
        ([c.facts.leading_s + c.facts.trailing_s for c in clips], "Silence at the ends", "seconds"),
    )
    return [histogram_svg(values, title, unit) for values, title, unit in kinds]
