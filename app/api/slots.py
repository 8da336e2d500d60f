"""A bounded number of requests at a time, and how soon a refused one should come back.

Knows nothing of what the requests do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import BusyError

_NUM_REMEMBERED = 32
_MAX_RETRY_AFTER_S = 60.0


class Slots:
    """Places for a number of requests.

    Args:
        max_slots: tells how many may be inside at the same time; asked for at each entry.
        what: what the requests are, in words, for the refusal.
        key: the setting that holds the limit, for the refusal.
        code: the refusal's machine-readable word.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        max_slots: Callable[[], int],
        *,
        what: str,
        key: str,
        code: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_slots = max_slots
        self._what = what
        self._key = key
        self._code = code
        self._clock = clock
        self._num_taken = 0
        self._durations_s: deque[float] = deque(maxlen=_NUM_REMEMBERED)

    @property
    def num_taken(self) -> int:
        """Requests inside now."""
        return self._num_taken

    @property
    def retry_after_s(self) -> float:
        """Seconds until a place should be free.

        With all places taken by requests of the recent mean duration, one ends every
        mean / places seconds.
        """
        if not self._durations_s:
            return 1.0
        mean_s = sum(self._durations_s) / len(self._durations_s)
        return min(_MAX_RETRY_AFTER_S, max(1.0, mean_s / self._max_slots()))

    @contextmanager
    def take(self) -> Iterator[None]:
        """Holds a place while the block runs.

        Raises:
            BusyError: all places are taken.
        """
        if self._num_taken >= self._max_slots():
            raise BusyError(
                f"{self._num_taken} {self._what} are being worked on and {self._key} allows no "
                "more; try again after the seconds in Retry-After.",
                code=self._code,
                retry_after_s=self.retry_after_s,
            )
        self._num_taken += 1
        start_s = self._clock()
        try:
            yield
            self._durations_s.append(self._clock() - start_s)
        finally:
            self._num_taken -= 1
