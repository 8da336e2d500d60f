"""Where the next worker is to run, after what happened to the ones before it.

Reads the end of a worker, keeps the benches, and lets a probe decide when a device may return.
Knows no sockets and no requests, and never imports torch.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from app.devices.background import run_in_daemon
from app.devices.benches import CPU, BenchedDevice, Benches
from app.devices.faults import OUT_OF_MEMORY, STACK_FAULTS
from app.devices.place_order import PlaceOrder, RowsOrder
from app.devices.probe import forget, probe
from app.devices.report import ProbeReport
from app.errors import AudioVoiceError
from app.settings import Settings
from app.supervisor.watch import WorkerRun

#: Ends that a broken library brings about. SIGKILL comes from outside.
_FAULT_SIGNALS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
)
#: A stack that was tried so lately is not tried again for the same sort of end.
_REPROBE_AFTER_S = 600.0
#: A worker moves back to a device when nobody has asked it for anything this long.
IDLE_S = 5.0

_log = logging.getLogger(__name__)


class Recovery:
    """Judges the ends of workers.

    Args:
        settings: DEVICE, and where probes are remembered.
        clock: seconds that never go back.
        try_device: probes a device anew; blocks. The real probe if None.
        shared: where losses are counted together with those of other models' workers; its own
            if None. A want of memory is a model's own affair, and benches the device for it alone.
        rows: told to every worker; None where nobody counted.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        try_device: Callable[[str], ProbeReport] | None = None,
        shared: Benches | None = None,
        rows: RowsOrder | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._try_device = try_device or (lambda name: probe(settings, name, use_cache=False))
        self._shared = Benches(clock) if shared is None else shared
        self._too_small = Benches(clock)
        self._rows = rows
        self._busy_at = clock()
        self._reprobe = False
        self._reprobed_at: float | None = None

    @property
    def benched(self) -> tuple[BenchedDevice, ...]:
        """The devices that are not used for now."""
        shared = self._shared.benched
        names = {bench.device for bench in shared}
        return (*shared, *(b for b in self._too_small.benched if b.device not in names))

    def next_place(self) -> PlaceOrder:
        """Returns what the next worker is told."""
        reprobe, self._reprobe = self._reprobe, False
        if reprobe:
            self._reprobed_at = self._clock()
        if self.benched:
            reason = "; ".join(f"{b.device} is benched: {b.reason}" for b in self.benched)
            return PlaceOrder(CPU, reason, reprobe, self._rows)
        return PlaceOrder(reprobe=reprobe, rows=self._rows)

    def note_end(self, run: WorkerRun) -> bool:
        """Takes in how a worker ended.

        Returns:
            True where the next one runs elsewhere, because the device has just been benched.
        """
        code = run.error.code if run.error else ""
        died_of = -(run.child.returncode or 0)
        if run.was_killed or died_of in _FAULT_SIGNALS or code in STACK_FAULTS:
            last = self._reprobed_at
            self._reprobe = last is None or self._clock() - last >= _REPROBE_AFTER_S
            if self._reprobe:
                self._forget(run.device)
        why = run.error.message.rstrip(".") if run.error else run.ending
        is_full = code == OUT_OF_MEMORY
        benches = self._too_small if is_full else self._shared
        was_benched = benches.note_loss(run.device, why, at_once=is_full)
        if was_benched:
            _log.error("%s is benched, the CPU takes over: %s", run.device, why)
        return was_benched

    def _forget(self, device: str) -> None:
        """Drops what is remembered, so that another start, too, tries the stack anew."""
        with suppress(OSError):
            for name in {device or CPU, self._settings.device}:
                forget(self._settings, name)

    def is_time_to_move(self, run: WorkerRun, is_idle: bool) -> bool:
        """Says whether a worker is to be started anew elsewhere: back on a device that may be used
        again, or off one that other workers were lost on.

        Args:
            run: the worker as it is.
            is_idle: nobody waits for it now. Asked for often, so that a long idle time shows.
        """
        now = self._clock()
        if not is_idle:
            self._busy_at = now
        may_return = run.place.device == CPU and not self.benched
        must_leave = run.device in {bench.device for bench in self.benched}
        return (may_return or must_leave) and is_idle and now - self._busy_at >= IDLE_S

    async def review(self) -> None:
        """Probes the device whose review is due, if one is; a passed probe frees it."""
        for benches in (self._shared, self._too_small):
            device = benches.take_due()
            if device is not None:
                await self._review(device, benches)

    async def _review(self, device: str, benches: Benches) -> None:
        _log.info("trying whether %s may be used again", device)
        try:
            report = await run_in_daemon(lambda: self._try_device(device), "review of a device")
        except asyncio.CancelledError:
            benches.put_off(device)
            raise
        except (AudioVoiceError, OSError) as error:
            benches.note_review(device, passed=False, reason=str(error))
            return
        passed = report.usable and report.device == device
        benches.note_review(device, passed, f"{report.verdict}: {report.detail}")
        _log.warning(
            "%s %s: %s", device, "may be used again" if passed else "stays benched", report.verdict
        )
