"""Which devices sit on the bench because workers kept failing on them, and when one may try again.

Pure bookkeeping over a clock that is given: three losses in ten minutes, or memory that does not
suffice, bench a device; a probe that passes lets it return. The CPU is never benched, for there is
nothing to take its place. Starts nothing, measures nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: Losses on one device within the window that bench it.
MAX_LOSSES = 3
LOSS_WINDOW_S = 600.0
#: First wait for a review; doubled each time the device is benched again or fails its review.
REVIEW_AFTER_S = 600.0
MAX_DOUBLINGS = 4

CPU = "cpu"


@dataclass(frozen=True)
class BenchedDevice:
    """A device that is not used for now. `review_in_s` may be 0: the review is due."""

    device: str
    reason: str
    review_in_s: float


@dataclass
class _Bench:
    reason: str
    review_at: float
    is_reviewed: bool = False


class Benches:
    """Losses and benches of the devices of one service.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._losses: dict[str, deque[float]] = {}
        self._benched: dict[str, _Bench] = {}
        self._times_benched: dict[str, int] = {}

    @property
    def benched(self) -> tuple[BenchedDevice, ...]:
        """The devices on the bench now, the longest there first."""
        now = self._clock()
        return tuple(
            BenchedDevice(device, bench.reason, max(0.0, bench.review_at - now))
            for device, bench in self._benched.items()
        )

    def take_due(self) -> str | None:
        """Returns a device whose review is due, for one caller to make it; None when none is.

        Whoever takes it answers with `note_review`, or with `put_off` where it could not be made.
        """
        for bench in self.benched:
            if bench.review_in_s == 0 and not self._benched[bench.device].is_reviewed:
                self._benched[bench.device].is_reviewed = True
                return bench.device
        return None

    def put_off(self, device: str) -> None:
        """Gives a review back that was taken and not made."""
        if device in self._benched:
            self._benched[device].is_reviewed = False

    def note_loss(self, device: str, reason: str, *, at_once: bool = False) -> bool:
        """Counts a worker lost on a device.

        Args:
            device: as torch names it; empty where the worker had not chosen one yet.
            reason: why it was lost, in words.
            at_once: True where the same again would only meet the same, as for want of memory.

        Returns:
            True when this loss has put the device on the bench.
        """
        if device in ("", CPU) or device in self._benched:
            return False
        now = self._clock()
        losses = self._losses.setdefault(device, deque(maxlen=MAX_LOSSES))
        losses.append(now)
        is_third = len(losses) == MAX_LOSSES and now - losses[0] <= LOSS_WINDOW_S
        if not (is_third or at_once):
            return False
        times = (
            "" if at_once else f"{MAX_LOSSES} workers lost in {LOSS_WINDOW_S / 60:.0f} minutes: "
        )
        self._losses.pop(device)
        self._put(device, f"{times}{reason}")
        return True

    def note_review(self, device: str, passed: bool, reason: str) -> None:
        """Takes a probe's answer: the device may return, or stays for twice as long."""
        bench = self._benched.get(device)
        if bench is None:
            return
        if passed:
            del self._benched[device]
        else:
            self._put(device, reason)

    def _put(self, device: str, reason: str) -> None:
        times = self._times_benched.get(device, 0)
        self._times_benched[device] = times + 1
        pause_s = REVIEW_AFTER_S * 2 ** min(times, MAX_DOUBLINGS)
        self._benched[device] = _Bench(reason, self._clock() + pause_s)
