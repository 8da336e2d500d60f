"""How many rows there is memory for: fewer after each time it ran out, more again after a while.

Pure bookkeeping over a clock that is given. Knows no device and no scheduler.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: What took the memory may be gone after this long; then twice as many rows are tried.
GROW_AFTER_S = 600.0


class RowLimit:
    """The most segments side by side.

    Args:
        most: rows that were asked for.
        clock: seconds that never go back.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = most
        self._most = most
        self._clock = clock
        self._shrunk_at = 0.0

    @property
    def is_reduced(self) -> bool:
        """True while there are fewer than was asked for."""
        return self.rows < self._most

    def shrink(self, num_running: int) -> bool:
        """Halves the rows after the memory ran out.

        Args:
            num_running: rows that were running when it did.

        Returns:
            False where a single row was too much already.
        """
        if self.rows == 1:
            return False
        self.rows = max(1, min(self.rows, num_running) // 2)
        self._shrunk_at = self._clock()
        return True

    def grow(self) -> bool:
        """Doubles the rows when memory has sufficed for ten minutes; says whether it did."""
        if not self.is_reduced or self._clock() - self._shrunk_at < GROW_AFTER_S:
            return False
        self.rows = min(self._most, self.rows * 2)
        self._shrunk_at = self._clock()
        return True
