"""The most memory that a process and all that it starts hold at once (Linux).

Counted is what only memory or swap can hold: pages that several of the processes share count once,
and pages mapped from files (libraries, weights), which the kernel can drop, not at all. So the
figure does not depend on what else runs on the machine.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

#: Between two looks. One takes some 10 ms for each gigabyte that is held.
_INTERVAL_S = 0.25
_KINDS = ("Pss_Anon:", "Pss_Shmem:")


class MemoryWatch:
    """Looks at a process and its descendants until it is left; `peak_bytes` is the most it saw."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            held = sum(held_bytes(pid) for pid in family(self._pid))
            self.peak_bytes = max(self.peak_bytes, held)
            if self._ended.wait(_INTERVAL_S):
                return


def family(pid: int) -> list[int]:
    """Returns a process and all its descendants that are still there."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for file in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):  # the thread has ended since
                waiting += map(int, file.read_text().split())
    return found


def held_bytes(pid: int) -> int:
    """Returns a process's share of memory that is no file's; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_KINDS))
