"""The engine thread's loop: takes messages, drives the synthesizer step by step, tells the results.

One thread runs all of this, so the synthesizer needs no locks. Cancels are looked for before each
step and before each new request. Knows no sockets and no torch.
"""

from __future__ import annotations

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from app.devices.faults import OUT_OF_MEMORY
from app.errors import AudioVoiceError, DeviceError, UnavailableError
from app.messages import (
    Audio,
    Cancel,
    DeviceMemory,
    Done,
    Failed,
    PrepareVoice,
    Route,
    Speak,
    Stop,
    ToWorker,
    VoiceInfo,
)

Answer = Audio | Done | Failed
Emit = Callable[[Answer], None]

#: New requests may hold back the running ones for this long before the next step is made.
_BEGIN_BUDGET_S = 0.02
_MEMORY_EVERY_S = 1.0

_log = logging.getLogger(__name__)


class EngineInfo(Protocol):
    """What a synthesizer says about its model; the fields of `messages.Ready` that it knows."""

    @property
    def model(self) -> str:
        """Name of the bundle."""

    @property
    def version(self) -> str:
        """Version of the bundle."""

    @property
    def licence(self) -> str:
        """Licence of the weights."""

    @property
    def languages(self) -> Sequence[str]:
        """Codes of the languages it speaks."""

    @property
    def voices(self) -> Sequence[VoiceInfo]:
        """Voices that came with the bundle."""

    @property
    def default_voice(self) -> str:
        """The voice used when none is named; empty where the bundle has none."""

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio."""

    @property
    def device(self) -> str:
        """Where it runs: `cpu`, `cuda:0`."""

    @property
    def device_reason(self) -> str:
        """Why it runs there."""

    @property
    def routes(self) -> Sequence[Route]:
        """All that was chosen by itself, with the reasons."""


class SynthesizerProtocol(Protocol):
    """What the worker needs of a synthesizer. All calls come from one thread.

    `submit` and `prepare_voice` raise for the one request: an `AudioVoiceError`, or anything else,
    which counts as a fault of ours. `DeviceError` is kept for a device that can't go on: it ends
    the worker, like anything that comes out of `step`. Whatever goes wrong with one request while
    it is decoded is emitted as `Failed`.
    """

    @property
    def info(self) -> EngineInfo:
        """What is loaded."""

    @property
    def num_rows(self) -> int:
        """Segments in the batch now."""

    @property
    def num_waiting(self) -> int:
        """Segments accepted and not yet in the batch."""

    def device_memory(self) -> DeviceMemory | None:
        """Memory of the device now; None on a CPU."""

    def stage_peaks(self) -> dict[str, int]:
        """Most memory in bytes that was held while each stage of the work went on."""

    def warm_up(self) -> None:
        """Speaks one sentence and checks it; raises an `AudioVoiceError` if that fails."""

    def submit(self, request: Speak, emit: Emit, /) -> None:
        """Accepts a request; `emit` is called from here or from `step`, `Done` or `Failed` last."""

    def prepare_voice(self, request: PrepareVoice, emit: Emit, /) -> None:
        """Caches a voice's conditioning; `emit` is called with `Done` or `Failed`."""

    def cancel(self, request_id: str, /) -> None:
        """Forgets a request, at once; unknown ids are ignored. Nothing need be emitted."""

    def step(self) -> bool:
        """Makes one decode step for the whole batch; False when there is nothing to do."""


class EngineLoop:
    """Runs one synthesizer until it is told to stop or the engine breaks.

    `num_rows`, `num_waiting`, `device_memory`, `stage_peaks` and `step_age_s` may be read from any
    thread.
    """

    def __init__(
        self,
        synthesizer: SynthesizerProtocol,
        inbox: queue.SimpleQueue[ToWorker],
        send: Emit,
    ) -> None:
        self._synthesizer = synthesizer
        self._inbox = inbox
        self._send = send
        self._pending: deque[Speak | PrepareVoice] = deque()
        self._in_flight: set[str] = set()
        self._stop_at: float | None = None
        self._busy_since: float | None = None
        self._memory_read_at = 0.0
        self.num_rows = 0
        self.num_waiting = 0
        self.device_memory: DeviceMemory | None = None
        self.stage_peaks: dict[str, int] = {}
        self._read_memory(is_due=True)

    @property
    def step_age_s(self) -> float:
        """Seconds since the engine last finished something; 0 while it is idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def run(self) -> None:
        """Works until `Stop` came and what was in flight is finished or its grace is over.

        Raises:
            Exception: whatever broke the engine; all in flight have been told before, unless it
                is a `DeviceError` for want of memory.
        """
        has_work = False
        try:
            while not self._is_finished():
                self._take_messages(wait=not has_work)
                has_work = self._turn()
        except Exception as error:
            if isinstance(error, DeviceError) and error.code == OUT_OF_MEMORY:
                raise  # whoever restarts us may have them made elsewhere
            self._fail_all("The engine failed and is started again; try again shortly.")
            raise

    def _is_finished(self) -> bool:
        if self._stop_at is None:
            return False
        if time.monotonic() >= self._stop_at:
            self._fail_all("The service is stopping; try again later.")
        return not self._in_flight

    def _turn(self) -> bool:
        """Begins what is new, makes one step, and says whether there is more to do."""
        self._busy_since = time.monotonic()
        self._begin_pending()
        stepped = self._synthesizer.step()
        self.num_rows = self._synthesizer.num_rows
        self.num_waiting = self._synthesizer.num_waiting + len(self._pending)
        has_work = stepped or bool(self._pending)
        self._read_memory(is_due=not has_work)
        if not has_work and self._in_flight:
            self._fail_lost()
        self._busy_since = time.monotonic() if has_work else None
        return has_work

    def _read_memory(self, *, is_due: bool) -> None:
        """Asks the device for its memory, from the one thread that may use it: now and then while
        there is work, and at its end.
        """
        now = time.monotonic()
        if is_due or now - self._memory_read_at >= _MEMORY_EVERY_S:
            self._memory_read_at = now
            self.device_memory = self._synthesizer.device_memory()
            self.stage_peaks = self._synthesizer.stage_peaks()

    def _take_messages(self, wait: bool) -> None:
        """Empties the inbox; with nothing to do, waits until there is something in it."""
        if wait:
            self._take(self._inbox.get())
        with suppress(queue.Empty):
            while True:
                self._take(self._inbox.get_nowait())

    def _take(self, message: ToWorker) -> None:
        if isinstance(message, Cancel):
            self._cancel(message.id)
        elif isinstance(message, Stop):
            stop_at = time.monotonic() + message.grace_s
            self._stop_at = min(stop_at, self._stop_at or stop_at)
        elif self._stop_at is not None:
            self._send(_failure(message.id, UnavailableError("The service is stopping.")))
        else:
            self._in_flight.add(message.id)
            self._pending.append(message)

    def _cancel(self, request_id: str) -> None:
        if request_id not in self._in_flight:
            return
        self._in_flight.discard(request_id)
        self._pending = deque(item for item in self._pending if item.id != request_id)
        self._synthesizer.cancel(request_id)

    def _begin_pending(self) -> None:
        """Hands new requests to the synthesizer, for a moment; the rest wait for the next turn."""
        until = time.monotonic() + _BEGIN_BUDGET_S
        while self._pending:
            self._begin(self._pending.popleft())
            self._take_messages(wait=False)
            if time.monotonic() >= until:
                return

    def _begin(self, request: Speak | PrepareVoice) -> None:
        try:
            if isinstance(request, Speak):
                self._synthesizer.submit(request, self._emit)
            else:
                self._synthesizer.prepare_voice(request, self._emit)
        except DeviceError:
            raise
        except AudioVoiceError as error:
            self._emit(_failure(request.id, error))
        except Exception:  # noqa: BLE001 - one request's fault must not end the others
            _log.exception("request %s could not be begun", request.id)
            self._synthesizer.cancel(request.id)
            self._emit(
                _failure(request.id, AudioVoiceError("The request broke the engine's code."))
            )
        self._busy_since = time.monotonic()

    def _emit(self, answer: Answer) -> None:
        """Sends an answer, unless its request was cancelled meanwhile."""
        if answer.id not in self._in_flight:
            return
        if not isinstance(answer, Audio):
            self._in_flight.discard(answer.id)
        self._send(answer)

    def _fail_lost(self) -> None:
        """Ends requests that the synthesizer has forgotten, so that nobody waits for them."""
        _log.error("the engine is idle, yet %d requests have no end", len(self._in_flight))
        for request_id in sorted(self._in_flight):
            self._synthesizer.cancel(request_id)
            self._emit(_failure(request_id, AudioVoiceError("The engine lost the request.")))

    def _fail_all(self, message: str) -> None:
        for request_id in sorted(self._in_flight):
            self._emit(_failure(request_id, UnavailableError(message)))
        self._pending.clear()


def _failure(request_id: str, error: AudioVoiceError) -> Failed:
    return Failed(id=request_id, error=error.to_dict())
