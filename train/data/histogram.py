"""A histogram as an SVG picture that stands in a page by itself. Needs no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT = 420, 180
_LEFT, _RIGHT, _BOTTOM, _TOP = 40, 22, 34, 26
_NUM_BARS = 30
_BAR = "#4878a8"
_TEXT = 'font-family="sans-serif" font-size="11" fill="currentColor"'


def histogram_svg(values: Sequence[float], title: str, unit: str) -> str:
    """Returns an `<svg>` element that shows how values are distributed.

    Args:
        values: any number of finite values.
        title: above the picture.
        unit: below the axis.
    """
    if not values:
        return ""
    numbers = np.asarray(values, dtype=np.float64)
    counts, edges = np.histogram(numbers, bins=_edges(numbers))
    tallest = max(1, int(counts.max()))
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM - _TOP
    bar_width = plot_width / len(counts)
    base = _HEIGHT - _BOTTOM
    bars = [
        _bar(_LEFT + i * bar_width, base, bar_width, plot_height * int(n) / tallest, int(n), lo, hi)
        for i, (n, lo, hi) in enumerate(zip(counts, edges, edges[1:], strict=False))
        if n
    ]
    ticks = [
        f'<text x="{_LEFT + share * plot_width:.1f}" y="{base + 14}" text-anchor="middle" {_TEXT}>'
        f"{edges[0] + share * (edges[-1] - edges[0]):.3g}</text>"
        for share in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{escape(title)}">',
            f'<text x="{_LEFT}" y="16" font-weight="bold" {_TEXT}>{escape(title)}</text>',
            *bars,
            f'<line x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}" '
            'stroke="currentColor"/>',
            f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end" {_TEXT}>{tallest}</text>',
            f'<text x="{_LEFT - 4}" y="{base}" text-anchor="end" {_TEXT}>0</text>',
            *ticks,
            f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 4}" text-anchor="middle" {_TEXT}>'
            f"{escape(unit)}</text>",
            "</svg>",
        ]
    )


def _edges(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the edges of the bars; each bar has as many whole numbers if all values are such."""
    low, high = float(numbers.min()), float(numbers.max())
    if low < high and bool(np.all(numbers == np.rint(numbers))):
        step = float(np.ceil((high - low + 1) / _NUM_BARS))
        return np.arange(low, high + step + 0.5, step)
    return np.histogram_bin_edges(numbers, bins=_NUM_BARS)


def _bar(
    x: float, base: int, width: float, height: float, count: int, low: float, high: float
) -> str:
    return (
        f'<rect x="{x + 0.5:.1f}" y="{base - height:.1f}" width="{max(width - 1, 0.5):.1f}" '
        f'height="{height:.1f}" fill="{_BAR}">'
        f"<title>{count}: {low:.3g} to {high:.3g}</title></rect>"
    )
