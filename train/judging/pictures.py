"""Spectrograms of a recording and of the same sentence spoken, one above the other, as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from app.errors import SettingsError
from train.judging.speaking import Samples
from train.mels import HOP, MEL_RATE, code_mel, resample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Pictures that an evaluation draws: enough to see, few enough to look at.
NUM_PICTURES = 4

_FLOOR, _CEILING = -10.0, 4.0
_INCHES_PER_S = 2.5


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

    Raises:
        SettingsError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError(
            "pictures need matplotlib; install the extra: pip install 'audio-voice[scores]'."
        ) from error
    rows = [(*spoken, f"spoken (heard: {heard})" if heard else "spoken")]
    if recorded is not None:
        rows.insert(0, (*recorded, "recorded"))
    longest_s = max(len(samples) / rate for samples, rate, _ in rows)
    figure = Figure(figsize=(max(5.0, _INCHES_PER_S * longest_s), 2.6 * len(rows)), dpi=100)
    axes = figure.subplots(len(rows), 1, squeeze=False, sharex=True)[:, 0]
    for axis, (samples, rate, name) in zip(axes, rows, strict=True):
        _draw(axis, samples, rate, name)
    axes[-1].set_xlabel("seconds")
    figure.suptitle(text, fontsize=10)
    figure.tight_layout()
    figure.savefig(path)


def _draw(axis: Axes, samples: Samples, rate: int, name: str) -> None:
    mel = code_mel(resample(torch.from_numpy(samples), rate, MEL_RATE)).numpy()
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
