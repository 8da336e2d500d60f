"""How many speech requests are taken at a time, where nobody says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.settings import Settings
from app.supervisor.loaded import ModelStatus

#: No fewer, however few rows there are: a request that waits a little is better than a 429.
_FEWEST = 32
#: While each row has a request, as many wait to take its place.
_PLACES_PER_ROW = 2


class QueueLength(NamedTuple):
    """Requests taken and not yet finished at most, and why so many."""

    places: int
    reason: str


def queue_length(settings: Settings, models: Sequence[ModelStatus]) -> QueueLength:
    """Returns how many requests may be under way or waiting.

    Args:
        settings: MAX_QUEUE.
        models: those that are loaded; the one with the most rows counts.
    """
    if settings.max_queue is not None:
        return QueueLength(settings.max_queue, "MAX_QUEUE")
    rows = max((model.rows for model in models), default=0)
    if rows * _PLACES_PER_ROW <= _FEWEST:
        return QueueLength(_FEWEST, "the default with few rows")
    return QueueLength(rows * _PLACES_PER_ROW, f"twice the {rows} rows of a model")
