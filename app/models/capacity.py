"""How many segments are decoded side by side, and what their caches may take: by where they run.

A CPU gains little from more than 16 rows (docs/performance.md), and its memory is everybody's. A
GPU reads the weights once for all rows, so more of them cost it little until its arithmetic or
its memory ends. A person's number wins. Pure choices with their reasons; needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from app.devices.place_order import RowsOrder
from app.messages import Route
from app.models.footprint import Footprint, Place
from app.settings import Settings

#: Most rows by place, where nobody says.
ROWS: Mapping[Place, int] = {"cpu": 16, "gpu": 64}
#: Room for the keys and values of all rows on a CPU, where nobody says: 11 of XTTS-v2's longest.
CPU_CACHE_BYTES = 1_536_000_000

_ROWS_REASONS: Mapping[Place, str] = {
    "cpu": "the default on a CPU",
    "gpu": "the default on a GPU",
}


class Rows(NamedTuple):
    """The most segments side by side, and why so many."""

    most: int
    reason: str


@dataclass(frozen=True)
class Capacity:
    """What a scheduler may take.

    `cache_bytes` is the room for the keys and values of all rows; None where there is no limit
    beside that of the rows.
    """

    rows: Rows
    cache_bytes: int | None
    cache_reason: str

    def routes(self) -> tuple[Route, Route]:
        """Returns both choices as they are told."""
        limit = "no limit" if self.cache_bytes is None else f"{self.cache_bytes / 1e6:.0f} MB"
        return (
            Route("rows", str(self.rows.most), self.rows.reason),
            Route("caches", limit, self.cache_reason),
        )


def wanted_rows(settings: Settings, place: Place, need: Footprint, limit_bytes: int | None) -> Rows:
    """Returns how many rows a model is to have where there is room for them.

    On a GPU more rows than on a CPU are taken from one half of the budget only: in the other,
    another model can be loaded, such as the next version of this one, while this one speaks.

    Args:
        settings: MAX_BATCH_ROWS.
        place: where it will run.
        need: its footprint.
        limit_bytes: the budget of all models in that place; None where it is not known.
    """
    if settings.max_batch_rows is not None:
        return Rows(settings.max_batch_rows, "MAX_BATCH_ROWS")
    most = ROWS[place]
    if place == "gpu" and limit_bytes is not None:
        fit = need.rows_within(limit_bytes // 2, most)
        if fit < most:
            reason = "what half of the budget holds; the other half is for another model"
            return Rows(max(fit, ROWS["cpu"]), reason)
    return Rows(most, _ROWS_REASONS[place])


def choose_capacity(
    settings: Settings,
    place: Place,
    *,
    order: RowsOrder | None = None,
    need: Footprint | None = None,
    free_bytes: int | None = None,
) -> Capacity:
    """Returns what a loaded model's scheduler may take.

    Args:
        settings: MAX_BATCH_ROWS, CACHE_BUDGET_MB.
        place: where it runs.
        order: the rows that were counted with before; obeyed where they were counted for `place`.
        need: the model's footprint, and
        free_bytes: the memory that is free now, with the model loaded: a GPU's rows are held to
            it unless MAX_BATCH_ROWS is given.
    """
    if order is not None and order.place == place:
        rows = Rows(order.rows, order.reason)
    elif settings.max_batch_rows is not None:
        rows = Rows(settings.max_batch_rows, "MAX_BATCH_ROWS")
    else:
        rows = Rows(ROWS[place], _ROWS_REASONS[place])
    is_held = place == "gpu" and settings.max_batch_rows is None
    if is_held and need is not None and free_bytes is not None:
        left = Footprint(0, need.row_bytes, need.work_bytes)
        fit = max(1, left.rows_within(free_bytes, rows.most))
        if fit < rows.most:
            rows = Rows(fit, f"what {free_bytes / 1e9:.1f} GB of free memory leave room for")
    return Capacity(rows, *_cache_budget(settings, place))


def _cache_budget(settings: Settings, place: Place) -> tuple[int | None, str]:
    if settings.cache_budget_mb is not None:
        return round(settings.cache_budget_mb * 1e6), "CACHE_BUDGET_MB"
    if place == "gpu":
        return None, "each row is counted at its longest on a GPU"
    return CPU_CACHE_BYTES, "the default on a CPU"
