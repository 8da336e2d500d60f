"""The answer to one request, filled by the supervisor and read by one reader.

Knows no sockets; what a cancel does is given by its maker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from app.errors import AudioVoiceError, RequestCancelledError, UnavailableError
from app.messages import Audio, Done

#: Most audio that waits for a slow reader: 64 MiB, 23 minutes at 24 kHz. It bounds the memory a
#: reader can cost who takes audio more slowly than it is made; past it the request fails.
MAX_WAITING_BYTES = 64 << 20


class SpeechStream:
    """Audio of one request, in order: an async iterator for one reader.

    Iterating raises the `AudioVoiceError` the request ended in, if it did; audio that still waits
    then is dropped. A reader whose task is cancelled while it waits cancels the request.
    """

    def __init__(self, request_id: str, forget: Callable[[str], None]) -> None:
        """Makes an open stream.

        Args:
            request_id: the request's id.
            forget: called once with the id when the reader gives up before the end.
        """
        self.id = request_id
        self._forget = forget
        self._waiting: deque[Audio] = deque()
        self._waiting_bytes = 0
        self._news = asyncio.Event()
        self._done: Done | None = None
        self._error: AudioVoiceError | None = None

    @property
    def done(self) -> Done | None:
        """The worker's last word; None until the iteration has come to its end."""
        return None if self._waiting else self._done

    @property
    def is_open(self) -> bool:
        """True while more may come from the worker."""
        return self._done is None and self._error is None

    def __aiter__(self) -> SpeechStream:
        return self

    async def __anext__(self) -> Audio:
        """Returns the next checked samples.

        Raises:
            AudioVoiceError: what the request ended in.
        """
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._done is not None:
                raise StopAsyncIteration
            self._news.clear()
            try:
                await self._news.wait()
            except asyncio.CancelledError:
                self._give_up(RequestCancelledError("The client left before its answer was ready."))
                raise
        audio = self._waiting.popleft()
        self._waiting_bytes -= len(audio.pcm)
        return audio

    async def aclose(self) -> None:
        """Ends the request: the worker is told to cancel it, unless it is complete. Idempotent."""
        self._give_up(RequestCancelledError("The request was closed before its answer was ready."))
        self._drop_waiting()

    def push(self, audio: Audio) -> None:
        """Adds audio; a reader who is too far behind fails the request."""
        if not self.is_open:
            return
        self._waiting.append(audio)
        self._waiting_bytes += len(audio.pcm)
        self._news.set()
        if self._waiting_bytes > MAX_WAITING_BYTES:
            waiting = f"{self._waiting_bytes >> 20} MiB of audio wait"
            self._give_up(
                UnavailableError(
                    f"The answer is read too slowly ({waiting}): read faster, or send less text.",
                    code="slow_reader",
                )
            )

    def finish(self, done: Done) -> None:
        """Marks the end; what still waits can be read."""
        if self.is_open:
            self._done = done
            self._news.set()

    def fail(self, error: AudioVoiceError) -> None:
        """Ends the stream in an error; the worker is not told, for it knows or is gone."""
        if self.is_open:
            self._error = error
            self._drop_waiting()
            self._news.set()

    def expire(self, error: AudioVoiceError) -> None:
        """Ends the stream in an error of our own making; the worker is told to cancel."""
        self._give_up(error)

    def _give_up(self, error: AudioVoiceError) -> None:
        if self.is_open:
            self.fail(error)
            self._forget(self.id)

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
