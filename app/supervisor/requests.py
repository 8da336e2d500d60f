"""The open requests of one engine: which stream an answer belongs to, and how long it may take.

Knows no sockets and no processes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import AudioVoiceError, ConflictError, UnavailableError
from app.messages import Audio, Done, Failed
from app.supervisor.stream import SpeechStream


@dataclass
class _Open:
    """A request whose answer is not complete. `moves` counts the workers it was handed on to."""

    stream: SpeechStream
    timer: asyncio.TimerHandle
    packed: bytes
    has_audio: bool = False
    moves: int = 0


class OpenRequests:
    """Streams by request id, each with its deadline."""

    def __init__(self, timeout_s: float, send_cancel: Callable[[str], None]) -> None:
        """Makes an empty set.

        Args:
            timeout_s: longest time from the opening of a request to its last audio.
            send_cancel: tells the worker that nobody waits for a request any more.
        """
        self._timeout_s = timeout_s
        self._send_cancel = send_cancel
        self._open: dict[str, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(
        self, request_id: str, refusal: AudioVoiceError | None, packed: bytes = b""
    ) -> SpeechStream:
        """Returns a stream for a new request; one that has failed already if it is refused.

        Args:
            request_id: unlike those of the other open requests.
            refusal: why it can't be taken; None if it can.
            packed: the request as it is sent, kept for as long as another worker may need it.
        """
        stream = SpeechStream(request_id, self._give_up)
        if refusal is None and request_id in self._open:
            refusal = ConflictError(f"A request with the id {request_id!r} is open.", param="id")
        if refusal is not None:
            stream.fail(refusal)
            return stream
        late = UnavailableError(
            f"The request took longer than REQUEST_TIMEOUT_S={self._timeout_s:g}: send less text.",
            code="request_timeout",
        )
        timer = asyncio.get_running_loop().call_later(self._timeout_s, stream.expire, late)
        self._open[request_id] = _Open(stream, timer, packed)
        return stream

    def answer(self, message: Audio | Done | Failed, retry_after_s: Callable[[], float]) -> None:
        """Gives the worker's answer to its stream; an answer that nobody waits for is dropped.

        Args:
            message: the answer.
            retry_after_s: what to say in an `UnavailableError` of the worker, which can't know.
        """
        entry = self._open.get(message.id)
        if entry is None:
            return
        if isinstance(message, Audio):
            entry.has_audio = True
            entry.packed = b""
            entry.stream.push(message)
            return
        self._close(message.id)
        if isinstance(message, Done):
            entry.stream.finish(message)
            return
        error = AudioVoiceError.from_dict(message.error)
        if isinstance(error, UnavailableError) and error.retry_after_s is None:
            error.retry_after_s = math.ceil(retry_after_s())
        entry.stream.fail(error)

    def fail_all(self, error: AudioVoiceError, *, keep_movable: bool = False) -> None:
        """Ends every open request with the same error.

        Args:
            error: what each is told, as a copy.
            keep_movable: leaves those that another worker can still make whole: nobody has heard
                any of them, and they were not moved before.
        """
        for request_id, entry in list(self._open.items()):
            if keep_movable and not entry.has_audio and not entry.moves:
                entry.moves += 1
                continue
            self._close(request_id)
            # A copy each: an exception that is raised in many places keeps all their frames.
            entry.stream.fail(AudioVoiceError.from_dict(error.to_dict()))

    def packed(self) -> list[bytes]:
        """Returns the open requests as they are sent, in the order they came."""
        return [entry.packed for entry in self._open.values()]

    def _give_up(self, request_id: str) -> None:
        self._close(request_id)
        self._send_cancel(request_id)

    def _close(self, request_id: str) -> None:
        self._open.pop(request_id).timer.cancel()
