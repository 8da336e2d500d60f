"""One worker from its start to its end: what it said of itself, and whether it still lives.

Knows no requests and no sockets.
"""

from __future__ import annotations

import asyncio
import logging
import time

from app.devices.place_order import PlaceOrder
from app.errors import AudioVoiceError
from app.messages import PROTOCOL_VERSION, Bye, Failed, Heartbeat, Loading, Ready
from app.settings import Settings
from app.supervisor.child import WorkerChild

_LONGEST_TICK_S = 1.0
#: A tick this much too late means that this process was stopped, not the worker.
_LATE_TICK_S = 1.0
#: SIGKILL works at once, unless a driver call holds the process in the kernel.
_KILL_WAIT_S = 5.0
#: What a worker said last may still be on its way when it is gone; its `Bye` ends the wait.
_LAST_WORDS_S = 1.0
_EXIT_INCURABLE = 2
#: How often somebody is told that a stage or a step still goes on.
_TELL_EVERY_S = 5

_log = logging.getLogger(__name__)


class WorkerRun:
    """A worker that was started, with all that is known of it."""

    def __init__(
        self,
        child: WorkerChild,
        identity: bytes,
        settings: Settings,
        place: PlaceOrder,
    ) -> None:
        """Takes charge of a child that was just started.

        Args:
            child: the process.
            identity: the name under which its messages come.
            settings: timeouts.
            place: where it was told to run.
        """
        self.child = child
        self.identity = identity
        self.place = place
        self.stage = "starting the worker"
        self.device = ""
        self.is_relieved = False
        self.ready: Ready | None = None
        self.ready_at = 0.0
        self.heartbeat: Heartbeat | None = None
        self.error: AudioVoiceError | None = None
        self.was_killed = False
        self.is_incurable = False
        self.ending = ""
        self._settings = settings
        self._last_sign_at = child.started_at
        self._stage_since = child.started_at
        self._has_last_words = asyncio.Event()
        self._told = ""

    @property
    def ready_for_s(self) -> float:
        """Seconds since the worker was ready; 0 if it never was."""
        return time.monotonic() - self.ready_at if self.ready else 0.0

    @property
    def load_s(self) -> float:
        """Seconds from the start of the process until it was ready, or until now."""
        until = self.ready_at if self.ready else time.monotonic()
        return until - self.child.started_at

    @property
    def progress(self) -> str:
        """What it is busy with and for how long, in words that change every few seconds.

        Empty for a worker that is ready and gets on.
        """
        if self.ready is None:
            for_s = _whole_spells_s(time.monotonic() - self._stage_since)
            return f"{self.stage}, for {for_s} s so far" if for_s else self.stage
        beat = self.heartbeat
        if beat is None or not (for_s := _whole_spells_s(beat.step_age_s)):
            return ""
        return (
            f"one step has taken {for_s} s so far, with {beat.rows} segments in the batch "
            f"(STALL_TIMEOUT_S={self._settings.stall_timeout_s:g})"
        )

    def notice(self, message: Loading | Ready | Heartbeat | Failed | Bye) -> None:
        """Takes in what the worker says of itself."""
        self._last_sign_at = time.monotonic()
        if isinstance(message, Ready):
            self._notice_ready(message)
        elif isinstance(message, Heartbeat):
            self.heartbeat = message
        elif isinstance(message, Loading):
            if message.stage != self.stage:
                self._stage_since = self._last_sign_at
            self.stage = message.stage
            self.device = _family(message.device) or self.device
        elif isinstance(message, Failed):
            self.error = AudioVoiceError.from_dict(message.error)
        else:
            self._has_last_words.set()

    def notice_life(self) -> None:
        """Any message is a sign of life."""
        self._last_sign_at = time.monotonic()

    def refuse(self, message: str) -> None:
        """Ends a worker that can't be spoken with; starting it again would not help."""
        self.error = AudioVoiceError(message, code="worker_protocol")
        self.is_incurable = True
        self.child.kill()

    async def watch(self) -> None:
        """Waits until the worker has ended, and kills it when it has to end; then `ending` says
        how, and nothing of the process is left.
        """
        tick_s = min(_LONGEST_TICK_S, self._settings.heartbeat_timeout_s / 4)
        looked_at = time.monotonic()
        while not await self.child.wait(tick_s):
            now = time.monotonic()
            if now - looked_at > tick_s + _LATE_TICK_S:
                self._last_sign_at = now
            looked_at = now
            self._tell_progress()
            fault = self._fault(now)
            if fault:
                self.was_killed = True
                self.child.kill()
                await self.child.wait(_KILL_WAIT_S)
                await self._settle(fault)
                return
        await self._settle("")

    def _notice_ready(self, message: Ready) -> None:
        if message.protocol != PROTOCOL_VERSION:
            self.refuse("The worker is of another version of the program: restart the service.")
            return
        self.ready = message
        self.device = _family(message.device)
        self.ready_at = time.monotonic()

    def _fault(self, now: float) -> str:
        """Says why the worker must be killed; empty when it need not.

        Until it is ready only each stage of the start has a limit: reading the libraries of a GPU
        stack from a cold disk holds all of Python's threads, heartbeats included. A download
        counts as going on for as long as it gets further.
        """
        settings = self._settings
        if self.ready is None:
            if now - self._stage_since > settings.worker_start_timeout_s:
                limit = f"WORKER_START_TIMEOUT_S={settings.worker_start_timeout_s:g}"
                return f"was not ready in time ({limit}; it was {self.stage})"
            return ""
        if now - self._last_sign_at > settings.heartbeat_timeout_s:
            return f"gave no sign of life for {now - self._last_sign_at:.0f} s"
        age_s = self.heartbeat.step_age_s if self.heartbeat else 0.0
        if age_s > settings.stall_timeout_s:
            limit = f"STALL_TIMEOUT_S={settings.stall_timeout_s:g}"
            return f"was stuck in one step for {age_s:.0f} s ({limit})"
        return ""

    def _tell_progress(self) -> None:
        """A long stage or step never stands still without a word."""
        progress = self.progress
        if progress != self._told and (self.ready is None or progress):
            _log.info("the engine: %s", progress)
        self._told = progress

    async def _settle(self, fault: str) -> None:
        how = self.child.reap()
        code = self.child.returncode
        self.ending = f"{fault} and was killed" if fault else how
        if code is not None and code >= 0:
            try:
                await asyncio.wait_for(self._has_last_words.wait(), _LAST_WORDS_S)
            except asyncio.TimeoutError:
                tail = self.child.tail.rpartition("\n")[2]
                self.ending += f" ({tail})" if tail else ""
        self.is_incurable = self.is_incurable or (code == _EXIT_INCURABLE and self.ready is None)


def _whole_spells_s(seconds: float) -> int:
    """Returns the seconds in whole spells between two words: 0, 5, 10."""
    return int(seconds // _TELL_EVERY_S) * _TELL_EVERY_S


def _family(device: str) -> str:
    """Returns the device as the settings name it: `cuda` for `cuda:0`."""
    return device.partition(":")[0]
