"""The most memory that each stage of the work takes: load, conditioning, prefill, decode, vocoder.

On a GPU what torch's allocator gave out at most while the stage went on; on the CPU the high-water
mark of the process's resident memory (proc(5): VmHWM, which writing 5 to clear_refs sets back).
Asking costs tens of microseconds, so stages that come by the hundred are sampled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

#: What a step holds stays for many steps, so that one in so many of these stages tells enough.
_SAMPLED = ("decode", "vocoder")
_SAMPLE_EVERY = 32
_ALWAYS_FIRST = 8
_BYTES_PER_KB = 1024
_SELF = Path("/proc/self")


class StageMeter:
    """Notes the most memory by stage. One thread.

    Args:
        device: where the model runs; it was loaded just now.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._device = device
        self._num_seen: dict[str, int] = {}
        self._reserved = 0
        self.peaks: dict[str, int] = {}
        if peak := self._take_peak():
            self.peaks["load"] = peak

    @property
    def reserved_bytes(self) -> int:
        """The most GPU memory that torch held until the marks were last set back; 0 elsewhere."""
        return self._reserved

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measures what happens in the block, if it is its turn to be measured."""
        seen = self._num_seen[stage] = self._num_seen.get(stage, 0) + 1
        if stage in _SAMPLED and seen > _ALWAYS_FIRST and seen % _SAMPLE_EVERY:
            yield
            return
        self._take_peak()
        yield
        if peak := self._take_peak():
            self.peaks[stage] = max(peak, self.peaks.get(stage, 0))

    def _take_peak(self) -> int:
        """Returns the most memory since the last call, in bytes; 0 where it can't be known."""
        if self._is_cuda:
            with suppress(RuntimeError):  # a context beyond repair is told of by the work itself
                peak = torch.cuda.max_memory_allocated(self._device)
                self._reserved = max(self._reserved, torch.cuda.max_memory_reserved(self._device))
                torch.cuda.reset_peak_memory_stats(self._device)
                return peak
            return 0
        if self._device.type != "cpu":
            return 0
        peak = high_water_bytes()
        with suppress(OSError):  # read-only in some containers: then it is the mark since the start
            (_SELF / "clear_refs").write_text("5", encoding="ascii")
        return peak


def high_water_bytes(process: Path = _SELF) -> int:
    """Returns the most resident memory of a process, from its folder in /proc; 0 if unknown."""
    try:
        status = (process / "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * _BYTES_PER_KB if found else 0
