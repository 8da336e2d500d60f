"""The engine as the api process sees it: an async client over a worker that may die at any time.

Turns requests into messages and answers into streams; the worker itself is kept by `keeper`.
Imports no torch and starts fast.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.errors import AudioVoiceError, InputError
from app.messages import Cancel, PrepareVoice, Ready, Speak, encode
from app.settings import Settings
from app.supervisor.keeper import WorkerKeeper
from app.supervisor.recovery import Recovery
from app.supervisor.refusals import refusal_of, stopping
from app.supervisor.requests import OpenRequests
from app.supervisor.state import EngineState
from app.supervisor.stream import SpeechStream
from app.worker.order import DEFAULT_SYNTHESIZER

_log = logging.getLogger(__name__)


class EngineClient:
    """One model's engine worker behind its supervisor.

    All methods are for the event loop's thread, which must be one that lives as long as the
    worker: the kernel kills the worker when the thread that started it ends.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        synthesizer: str = DEFAULT_SYNTHESIZER,
        worker_env: Mapping[str, str] | None = None,
        socket_folder: Path | None = None,
        worker_command: Sequence[str] = (),
        recovery: Recovery | None = None,
    ) -> None:
        """Makes a client; nothing is started yet.

        Args:
            settings: the service's; the worker works with the same.
            synthesizer: `module:factory` of what the worker runs.
            worker_env: additions to the worker's environment.
            socket_folder: where the socket's private folder is made; a temporary one if None.
            worker_command: what runs a worker; our own module if empty.
            recovery: decides where the next worker runs; one with its own clock if None.
        """
        self._settings = settings
        self._requests = OpenRequests(settings.request_timeout_s, self._send_cancel)
        self._keeper = WorkerKeeper(
            settings,
            self._requests,
            synthesizer=synthesizer,
            worker_env=worker_env,
            socket_folder=socket_folder,
            worker_command=worker_command,
            recovery=recovery,
        )

    @property
    def state(self) -> EngineState:
        """How the engine is now."""
        return self._keeper.state

    async def start(self) -> None:
        """Starts the worker and returns at once, before the model is loaded."""
        await self._keeper.start()

    async def stop(self, grace_s: float | None = None) -> None:
        """Stops the worker: requests in flight get the grace to finish, then they are cancelled.

        Nothing is left: no process, no socket, no task. Idempotent.

        Args:
            grace_s: seconds; `SHUTDOWN_GRACE_S` if None.
        """
        await self._keeper.stop(self._settings.shutdown_grace_s if grace_s is None else grace_s)

    def speak(self, request: Speak) -> SpeechStream:
        """Starts a request. Nothing is raised here; errors come from the iteration.

        While no worker is ready the stream fails at once with an `UnavailableError` that says
        when to try again. The request's id must be unlike those of other open requests.
        """
        return self._submit(request)

    async def prepare_voice(self, voice: str) -> None:
        """Computes and caches a stored voice's conditioning.

        Raises:
            AudioVoiceError: the voice can't be used, or the worker is not there.
        """
        async for _ in self._submit(PrepareVoice(id=f"voice-{uuid.uuid4().hex}", voice=voice)):
            _log.warning("audio came where none was asked for")

    async def wait_until_ready(
        self, timeout_s: float | None = None, *, max_crashes: int | None = None
    ) -> Ready:
        """Waits until the model is loaded, warmed and checked.

        Args:
            timeout_s: longest wait; None: as long as it takes.
            max_crashes: gives up when workers have ended so often; None: never.

        Raises:
            AudioVoiceError: what keeps the engine from ever being ready, or what a worker met
                last; `UnavailableError` when the time ran out or the service stops.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (state := self.state).ready is None:
            refused = state.phase == "failed" or (
                max_crashes is not None and state.num_crashes >= max_crashes
            )
            if state.last_error is not None and refused:
                raise state.last_error
            if state.phase == "failed" or self._keeper.is_stopping():
                raise refusal_of(state) or stopping()
            try:
                await self._keeper.changed(
                    None if deadline is None else deadline - time.monotonic()
                )
            except asyncio.TimeoutError as error:
                raise refusal_of(self.state) or stopping() from error
        return state.ready

    def _submit(self, request: Speak | PrepareVoice) -> SpeechStream:
        refusal: AudioVoiceError | None = refusal_of(self.state)
        packed = b""
        try:
            packed = encode(request)
        except (UnicodeEncodeError, OverflowError) as error:  # lone surrogates; beyond 64 bits
            refusal = InputError(f"The request holds a value that can't be sent on: {error}.")
        stream = self._requests.open(request.id, refusal, packed)
        if stream.is_open:
            self._keeper.send(packed)
        return stream

    def _send_cancel(self, request_id: str) -> None:
        self._keeper.send(encode(Cancel(id=request_id)))
