"""Spectrograms of a recording and of the same sentence spoken, one above the other, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train.judging.recordings import RATE, Recordings
from train.judging.speaking import Samples
from train.mels import HOP, MEL_RATE, code_mel, resample

if TYPE_CHECKING:
    from train.evaluation import Evaluation

#: Pictures of one evaluation: enough to see, few enough to look at.
_NUM_PICTURES = 4

_FLOOR, _CEILING = -10.0, 4.0
_PEAK = 0.6
_INCHES_PER_S = 2.5


def draw_pairs(folder: Path, evaluation: Evaluation, recordings: Recordings) -> list[Path]:
    """Draws the first few sentences that were spoken, with their recordings where there are any."""
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for result, samples in zip(evaluation.results, evaluation.spoken, strict=True):
        if samples is None or len(made) == _NUM_PICTURES:
            continue
        own = recordings.own.get(result.name)
        made.append(folder / f"{result.name}.png")
        draw_pair(
            made[-1],
            result.text,
            (samples, evaluation.sample_rate),
            None if own is None else (own, RATE),
            result.heard,
        )
    return made


def draw_pair(
    path: Path,
    text: str,
    spoken: tuple[Samples, int],
    recorded: tuple[Samples, int] | None,
    heard: str = "",
) -> None:
    """Writes one picture.

    Args:
        path: of the PNG; its folder is there.
        text: what was to be said; the title.
        spoken: samples and their rate.
        recorded: the same of a recording; None where there is none.
        heard: what the recogniser heard of `spoken`.
    """
    rows = [(*spoken, f"spoken (heard: {heard})" if heard else "spoken")]
    if recorded is not None:
        rows.insert(0, (*recorded, "recorded"))
    longest_s = max(len(samples) / rate for samples, rate, _ in rows)
    figure = Figure(figsize=(max(5.0, _INCHES_PER_S * longest_s), 2.6 * len(rows)), dpi=100)
    axes = figure.subplots(len(rows), 1, squeeze=False, sharex=True)[:, 0]
    for axis, (samples, rate, name) in zip(axes, rows, strict=True):
        _draw(axis, samples, rate, name)
        axis.set_xlim(0, longest_s)
    axes[-1].set_xlabel("seconds")
    figure.suptitle(text, fontsize=10)
    figure.tight_layout()
    figure.savefig(path)


def _draw(axis: Axes, samples: Samples, rate: int, name: str) -> None:
    levelled = samples * np.float32(_PEAK / max(1e-4, float(np.abs(samples).max(initial=0))))
    mel = code_mel(resample(torch.from_numpy(levelled), rate, MEL_RATE)).numpy()
    axis.imshow(
        mel,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=_FLOOR,
        vmax=_CEILING,
        extent=(0.0, mel.shape[1] * HOP / MEL_RATE, 0.0, float(mel.shape[0])),
    )
    axis.set_title(name, fontsize=9, loc="left")
    axis.set_ylabel("mel band")
