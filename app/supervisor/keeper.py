"""Keeps one engine worker alive: starts it, watches it, starts the next one when it is lost.

Restarts come with a growing pause, and on another device where the last one is not to be used.
What a loss costs the open requests is told to each of them. Imports no torch.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from app.devices.faults import OUT_OF_MEMORY
from app.errors import AudioVoiceError, UnavailableError
from app.messages import (
    Audio,
    Done,
    Failed,
    FromWorker,
    Ready,
    Stop,
    decode_from_worker,
    encode,
)
from app.settings import Settings
from app.supervisor.child import WorkerChild
from app.supervisor.recovery import Recovery
from app.supervisor.refusals import stopping
from app.supervisor.requests import OpenRequests
from app.supervisor.router import WorkerSocket
from app.supervisor.state import Backoff, EngineState, Phase
from app.supervisor.watch import WorkerRun
from app.worker.order import DEFAULT_SYNTHESIZER, WorkerOrder, pack_settings

#: Taken for the time to load a model until one was loaded.
_LOAD_GUESS_S = 10.0
#: A worker that was told to stop gets this much more than its grace before it is killed.
_STOP_SLACK_S = 2.0
_BENCH_TICK_S = 1.0

_log = logging.getLogger(__name__)


class WorkerKeeper:
    """One worker at a time, from `start` to `stop`.

    All methods are for the event loop's thread, which must be one that lives as long as the
    worker: the kernel kills the worker when the thread that started it ends.

    Args:
        settings: the service's; the worker works with the same.
        requests: the open requests, told of answers and losses.
        synthesizer: `module:factory` of what the worker runs.
        worker_env: additions to the worker's environment.
        socket_folder: where the socket's private folder is made; a temporary one if None.
        worker_command: what runs a worker; our own module if empty.
        recovery: decides where the next worker runs; one with its own clock if None.
    """

    def __init__(
        self,
        settings: Settings,
        requests: OpenRequests,
        *,
        synthesizer: str = DEFAULT_SYNTHESIZER,
        worker_env: Mapping[str, str] | None = None,
        socket_folder: Path | None = None,
        worker_command: Sequence[str] = (),
        recovery: Recovery | None = None,
    ) -> None:
        self._settings = settings
        self._requests = requests
        self._synthesizer = synthesizer
        self._worker_env = worker_env
        self._socket_folder = socket_folder
        self._worker_command = tuple(worker_command)
        self._recovery = recovery or Recovery(settings)
        self._backoff = Backoff(settings.restart_backoff_s)
        self._phase: Phase = "starting"
        self._reason = "not started"
        self._changed = asyncio.Event()
        self._run: WorkerRun | None = None
        self._socket: WorkerSocket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._pause_ends_at = 0.0
        self._load_s: float | None = None
        self._num_starts = 0
        self._num_crashes = 0
        self._num_kills = 0
        self._last_error: AudioVoiceError | None = None

    @property
    def state(self) -> EngineState:
        """How the worker is now, or what is done about it."""
        run = self._run
        return EngineState(
            phase=self._phase,
            reason=self._describe_phase(),
            ready=run.ready if run and self._phase == "ready" else None,
            heartbeat=run.heartbeat if run else None,
            restarts=max(0, self._num_starts - 1),
            num_crashes=self._num_crashes,
            num_kills=self._num_kills,
            num_in_flight=len(self._requests),
            last_error=self._last_error,
            pid=run.child.pid if run else None,
            uptime_s=run.ready_for_s if run else 0.0,
            load_s=self._load_s,
            retry_after_s=self._retry_after_s(),
            benched=self._recovery.benched,
        )

    async def start(self) -> None:
        """Starts the worker and returns at once, before the model is loaded."""
        if self._socket is not None:
            return
        self._socket = WorkerSocket(self._socket_folder)
        for work in (self._supervise(), self._receive(self._socket), self._watch_benches()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._note_broken)
            self._tasks.append(task)

    async def stop(self, grace_s: float) -> None:
        """Stops the worker; requests in flight get the grace to finish. Nothing is left of it."""
        if self._phase not in {"failed", "stopped"}:
            self._set_phase("stopping", "the service is stopping")
        try:
            await self._stop_worker(grace_s)
        finally:
            await self._release()

    def send(self, packed: bytes) -> None:
        """Sends a packed message to the worker; without one, drops it."""
        if self._run:
            self._send(self._run, packed)

    async def changed(self, timeout_s: float | None) -> None:
        """Waits until the phase changes.

        Raises:
            asyncio.TimeoutError: it did not in time.
        """
        await asyncio.wait_for(self._changed.wait(), timeout_s)

    def is_stopping(self) -> bool:
        """Says whether `stop` was called."""
        return self._phase in {"stopping", "stopped"}

    def _send(self, run: WorkerRun, packed: bytes) -> None:
        if self._socket:
            self._socket.send(run.identity, packed)

    def _retry_after_s(self) -> float:
        if self._phase == "ready":
            return 1.0
        now = time.monotonic()
        spent_s = self._run.load_s if self._run else min(0.0, now - self._pause_ends_at)
        return float(max(1, math.ceil(self._expected_load_s() - spent_s)))

    def _describe_phase(self) -> str:
        progress = self._run.progress if self._run else ""
        if self._phase == "ready":
            return f"{self._reason}; {progress}" if progress else self._reason
        if not progress or self._phase not in {"starting", "restarting"}:
            return self._reason
        return f"{progress}, after: {self._last_error.message}" if self._last_error else progress

    def _expected_load_s(self) -> float:
        return _LOAD_GUESS_S if self._load_s is None else self._load_s

    # --- what the worker says -------------------------------------------------------------

    async def _receive(self, socket: WorkerSocket) -> None:
        while True:
            identity, packed = await socket.receive()
            run = self._run
            if run is None or identity != run.identity:
                continue  # of a worker that is gone, or of a stranger
            try:
                message = decode_from_worker(packed)
            except msgspec.DecodeError:
                run.refuse("The worker speaks another language than this program: restart it.")
                continue
            self._dispatch(run, message)

    def _dispatch(self, run: WorkerRun, message: FromWorker) -> None:
        if isinstance(message, Audio | Done) or (isinstance(message, Failed) and message.id):
            run.notice_life()
            self._requests.answer(message, self._expected_load_s)
            return
        run.notice(message)
        if isinstance(message, Ready) and run.ready and self._phase in {"starting", "restarting"}:
            self._load_s = run.load_s
            self._set_phase("ready", f"{message.model} on {message.device}")
            _log.info("the engine is ready after %.1f s: %s", run.load_s, self._reason)
            for packed in self._requests.packed():  # those that the last worker had no memory for
                self._send(run, packed)

    # --- the worker's life ----------------------------------------------------------------

    async def _supervise(self) -> None:
        while not self.is_stopping():
            self._num_starts += 1
            ready_for_s = 0.0
            try:
                run = self._run = self._start_worker()
            except OSError as error:  # no memory, no process left
                self._note_end(f"The engine worker can't be started: {error}.")
            else:
                await run.watch()
                self._run = None
                if self.is_stopping():
                    return
                if run.is_relieved:
                    continue
                ready_for_s = run.ready_for_s
                self._num_kills += run.was_killed
                self._note_end(
                    f"The engine worker {run.ending}.",
                    run.error,
                    is_incurable=run.is_incurable,
                    is_moved=self._recovery.note_end(run),
                )
                if run.is_incurable:
                    return
            await self._pause(self._backoff.next_pause_s(ready_for_s))

    def _start_worker(self) -> WorkerRun:
        assert self._socket is not None
        identity = f"worker-{self._num_starts}-{secrets.token_hex(8)}"
        order = WorkerOrder(
            endpoint=self._socket.endpoint,
            identity=identity,
            parent=os.getpid(),
            settings=pack_settings(self._settings),
            synthesizer=self._synthesizer,
            place=self._recovery.next_place(),
        )
        child = WorkerChild(order, self._worker_env, self._worker_command)
        self._reason = "starting the worker"
        return WorkerRun(child, identity.encode(), self._settings, order.place)

    def _note_end(
        self,
        sentence: str,
        error: AudioVoiceError | None = None,
        *,
        is_incurable: bool = False,
        is_moved: bool = False,
    ) -> None:
        """Tells everybody whom the end concerns; `is_moved`: the next worker runs elsewhere."""
        self._num_crashes += 1
        self._last_error = error or UnavailableError(sentence, code="worker_lost")
        _log.error("%s %s", sentence, error.message if error else "")
        if is_incurable:
            self._set_phase("failed", self._last_error.message)
        else:
            self._set_phase("restarting", f"{sentence} {error.message}" if error else sentence)
        lost = f"{sentence[:-1]} while it had this request; it is started again. Try again shortly."
        self._requests.fail_all(
            UnavailableError(lost, code="worker_lost", retry_after_s=self._retry_after_s()),
            keep_movable=is_moved and error is not None and error.code == OUT_OF_MEMORY,
        )

    async def _watch_benches(self) -> None:
        """Lets devices return that pass their review; the worker moves when nobody needs it."""
        while True:
            await asyncio.sleep(_BENCH_TICK_S)
            await self._recovery.review()
            run = self._run
            is_idle = run is not None and run.ready is not None and not len(self._requests)
            if run and run.ready and self._recovery.is_time_to_move(run, is_idle):
                self._set_phase("restarting", "moving to the device that may be used now")
                run.is_relieved = True
                self._send(run, encode(Stop(grace_s=0)))

    async def _pause(self, pause_s: float) -> None:
        """Waits before the next start; a change of phase, which can only be a stop, ends it."""
        self._pause_ends_at = time.monotonic() + pause_s
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({changed}, timeout=pause_s)
        finally:
            changed.cancel()

    async def _stop_worker(self, grace_s: float) -> None:
        run = self._run
        if not self._tasks or self._tasks[0].done():
            return
        if run is not None and run.ready and self._socket:
            self._socket.send(run.identity, encode(Stop(grace_s=grace_s)))
            await asyncio.wait(self._tasks[:1], timeout=grace_s + _STOP_SLACK_S)
        elif run is not None:
            run.child.terminate()
            await asyncio.wait(self._tasks[:1], timeout=_STOP_SLACK_S)
        if self._run is not None:
            _log.warning("the worker did not stop in time and is killed")
            self._run.child.kill()
        await asyncio.wait(self._tasks[:1], timeout=_STOP_SLACK_S)

    async def _release(self) -> None:
        """Lets go of everything."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._run is not None:
            self._run.child.kill_and_reap()
            self._run = None
        self._requests.fail_all(stopping())
        if self._socket is not None:
            self._socket.close()
        if self._phase != "failed":
            self._set_phase("stopped", "the service has stopped")

    def _set_phase(self, phase: Phase, reason: str) -> None:
        self._phase = phase
        self._reason = reason
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _note_broken(self, task: asyncio.Task[None]) -> None:
        """A supervisor that fell over says so, instead of leaving everybody waiting."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        _log.critical("the supervisor broke", exc_info=error)
        self._last_error = AudioVoiceError(f"The supervisor broke: {error}", code="supervisor")
        self._set_phase("failed", self._last_error.message)
        self._requests.fail_all(UnavailableError(self._last_error.message, code="supervisor"))
