"""Tables for people, in columns of one width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def print_table(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows under their keys, which are those of the first row."""
    cells = [
        list(rows[0]),
        *([f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows),
    ]
    widths = [max(len(each) for each in column) for column in zip(*cells, strict=True)]
    print(f"\n{name}")
    for line in cells:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))
    print(flush=True)
