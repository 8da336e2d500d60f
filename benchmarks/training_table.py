"""What training runs are judged by: figures, their medians and spread, and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.training_task import EpochMeasured, Measured

Figures = Mapping[str, float]
#: Rows of the table: name, words, digits.
ROWS = (
    ("throughput", "s of audio per s", 2),
    ("cpu_throughput", "s of audio per CPU s", 2),
    ("epoch_s", "s per epoch, all in", 1),
    ("held_mb", "MB held, all processes", 0),
    ("peak_mb", "MB resident, the first", 0),
    ("written_mb", "MB written per epoch", 0),
    ("left_mb", "MB left on the disk", 0),
)


@dataclass(frozen=True)
class Spread:
    """A figure over several runs."""

    median: float
    least: float
    most: float


def figures(measured: Measured) -> dict[str, float]:
    """Returns what one run is judged by.

    The first epoch warms caches up and counts for memory and disk only. What is written per epoch
    is all that was written, the end of the run included, over all epochs.
    """
    later: Sequence[EpochMeasured] = measured.epochs[1:] or measured.epochs
    audio_s = sum(epoch.audio_s for epoch in later)
    return {
        "throughput": audio_s / sum(epoch.train_s for epoch in later),
        "cpu_throughput": audio_s / sum(epoch.train_cpu_s for epoch in later),
        "epoch_s": statistics.mean(epoch.whole_s for epoch in later),
        "held_mb": measured.held_bytes / 1e6,
        "peak_mb": measured.peak_bytes / 1e6,
        "written_mb": measured.written_bytes / 1e6 / len(measured.epochs),
        "left_mb": measured.left_bytes / 1e6,
        # stock draws clips with replacement: an epoch's audio varies
        "audio_s_per_epoch": audio_s / len(later),
        "clips_per_epoch": statistics.mean(epoch.clips for epoch in later),
        "eval_loss": measured.epochs[-1].eval_loss,
        "threads": measured.threads,
    }


def spreads(runs: Sequence[Figures]) -> dict[str, Spread]:
    """Returns the median, the least and the most of each figure."""
    columns = {name: [run[name] for run in runs] for name in runs[0]}
    return {
        name: Spread(statistics.median(values), min(values), max(values))
        for name, values in columns.items()
    }


def ratios(stock: Mapping[str, Spread], ours: Mapping[str, Spread]) -> dict[str, float]:
    """Returns the medians of ours over those of stock."""
    return {key: ours[key].median / stock[key].median for key, *_ in ROWS}


def table(name: str, sides: Mapping[str, Sequence[Figures]]) -> str:
    """Returns one comparison as Markdown.

    Args:
        name: of the comparison.
        sides: the runs of each; the first side is what the others are compared with.
    """
    found = {side: spreads(runs) for side, runs in sides.items()}
    first, *others = found
    threads = ", ".join(f"{side} {spread['threads'].median:.0f}" for side, spread in found.items())
    counts = sorted({len(runs) for runs in sides.values()})
    heads = ["", first, *(head for side in others for head in (side, "ratio"))]
    lines = [
        f"{name} (threads: {threads}; runs: {', '.join(map(str, counts))}): median (least to most)",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for key, words, digits in ROWS:
        cells = [words, _cell(found[first][key], digits)]
        for side in others:
            ratio = found[side][key].median / found[first][key].median
            cells += [_cell(found[side][key], digits), f"{ratio:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(spread: Spread, digits: int) -> str:
    middle = f"{spread.median:,.{digits}f}"
    least, most = (f"{value:,.{digits}f}" for value in (spread.least, spread.most))
    return middle if least == most else f"{middle} ({least} to {most})"
