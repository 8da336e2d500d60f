"""The answer to a speech request, from taking it up to its last byte.

One ASGI response holds the request's whole life: its place in the queue, its hold on the model, the
watch over the client, the generation and the encoder all end with it. The first audio exists before
the 200 is sent, so early faults are real HTTP errors. A raw stream that fails later is left
unfinished, upon which the server cuts the connection: the client sees a broken transfer, not a good
short file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.api.context import Context
from app.api.engine import EngineState, Lease
from app.api.events import error_event
from app.api.order import AUTO, SpeechOrder, speech_order
from app.api.pieces import event_pieces, raw_pieces
from app.api.presence import in_thread, while_present
from app.api.progress import SpeechProgress
from app.api.schemas import SpeechRequest
from app.audio.encode import content_type, encode_whole
from app.errors import AudioVoiceError, RequestCancelledError
from app.messages import Audio, Verdict

_log = logging.getLogger(__name__)


class SpeechReply(Response):
    """Serves one speech request.

    Args:
        wanted: the request, its text checked.
        model: name of the model that is to speak.
        context: the service's parts.
        request_id: under which it is logged.
    """

    def __init__(
        self, wanted: SpeechRequest, model: str, context: Context, request_id: str
    ) -> None:
        super().__init__()
        self._wanted = wanted
        self._model = model
        self._context = context
        self._request_id = request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Speaks and sends.

        Raises:
            BusyError: the queue is full.
            AudioVoiceError: the request failed before its first byte was sent.
        """
        context = self._context
        with context.speech_slots.take():
            async with context.engine.lease(self._model) as lease:
                # a thread, for the voices are listed from disk
                order = await in_thread(speech_order, self._wanted, lease.ready, context)
                await _Delivery(order, lease, context, self._request_id).serve(receive, send)


class _Delivery:
    """Speaks one order and sends what comes of it."""

    def __init__(self, order: SpeechOrder, lease: Lease, context: Context, request_id: str) -> None:
        self._order = order
        self._lease = lease
        self._context = context
        self._request_id = request_id

    async def serve(self, receive: Receive, send: Send) -> None:
        """Speaks and sends.

        Raises:
            AudioVoiceError: the request failed before its first byte was sent.
        """
        context, order = self._context, self._order
        progress = SpeechProgress(
            self._lease.speak(order.speak), context.metrics, sample_rate=order.sample_rate
        )
        sender = _Sender(send, context.settings.request_timeout_s)
        try:
            async with progress:
                await self._serve(progress, receive, sender)
        except AudioVoiceError as error:
            self._log_failure(error, progress)
            if not sender.started:
                raise
            if order.delivery == "sse" and not isinstance(error, RequestCancelledError):
                await sender.finish(error_event(error))
        else:
            self._log_success(progress)

    async def _serve(self, progress: SpeechProgress, receive: Receive, sender: _Sender) -> None:
        order = self._order
        first = await while_present(receive, progress.first_audio())
        if order.delivery == "whole" and first.num_segments == 1:
            body = await while_present(receive, self._whole_body(first, progress))
            await sender.start(
                {**self._headers_for(first, progress), "Content-Length": str(len(body))}
            )
            await sender.finish(body)
            return
        # What the checks said so far; a header can't tell more before the rest is made.
        await sender.start(self._headers_for(first, progress))
        pieces = event_pieces if order.delivery == "sse" else raw_pieces
        await while_present(receive, sender.pass_on(pieces(order, progress, first)))
        await sender.finish(b"")

    async def _whole_body(self, first: Audio, progress: SpeechProgress) -> bytes:
        pcm = bytearray(first.pcm)
        while (audio := await progress.next_audio()) is not None:
            pcm += audio.pcm
        order = self._order
        return await in_thread(encode_whole, order.audio_format, order.sample_rate, bytes(pcm))

    def _headers_for(self, first: Audio, progress: SpeechProgress) -> dict[str, str]:
        order = self._order
        media = content_type(order.audio_format)
        verdict = progress.verdict or first.verdict
        headers = {
            "Content-Type": "text/event-stream" if order.delivery == "sse" else media,
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
            "X-Audio-Verdict": verdict_header(verdict, first.num_segments),
            "X-Audio-Seed": str(order.seed),
            "X-Audio-Model": quote(self._lease.model, safe="/ "),
        }
        if verdict.route:
            headers["X-Audio-Route"] = route_header(verdict, self._lease.state)
        language = progress.done.language if progress.done else order.speak.language
        if language and language != AUTO:
            headers["X-Audio-Language"] = language
        return headers

    def _log_failure(self, error: AudioVoiceError, progress: SpeechProgress) -> None:
        level = logging.INFO if isinstance(error, RequestCancelledError) else logging.WARNING
        _log.log(
            level,
            "speech %s ended after %.2f s with %.2f s of audio: %s",
            self._request_id,
            progress.total_s,
            progress.audio_s,
            error.message,
        )

    def _log_success(self, progress: SpeechProgress) -> None:
        _log.info(
            "speech %s: %d characters, model %s, voice %s, first audio after %.3f s, "
            "%.2f s after %.2f s, %s",
            self._request_id,
            len(self._order.speak.text),
            self._lease.model,
            self._order.speak.voice,
            progress.first_audio_s or 0,
            progress.audio_s,
            progress.total_s,
            progress.verdict.status if progress.verdict else "no verdict",
        )


class _Sender:
    """Sends one response over ASGI and remembers whether it has begun.

    A client that takes nothing for `stall_s` seconds, and still holds its connection, has left.
    """

    def __init__(self, send: Send, stall_s: float) -> None:
        self._send_message = send
        self._stall_s = stall_s
        self.started = False

    async def start(self, headers: dict[str, str]) -> None:
        self.started = True
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    async def _send(self, message: Message) -> None:
        # Not `asyncio.wait_for`: before Python 3.12 it swallows a cancellation that comes as the
        # sending ends, which is just what a client does that leaves (python/cpython#86296).
        sending = asyncio.ensure_future(self._send_message(message))
        try:
            if not (await asyncio.wait({sending}, timeout=self._stall_s))[0]:
                raise RequestCancelledError("The client stopped reading its answer.")
            sending.result()
        finally:
            sending.cancel()

    async def pass_on(self, pieces: AsyncIterator[bytes]) -> None:
        async with aclosing(pieces):  # type: ignore[type-var]
            async for piece in pieces:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def finish(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def route_header(verdict: Verdict, state: EngineState) -> str:
    """Returns where the audio was made, with what it was held to and instead of what."""
    benched = "".join(f"; instead-of={bench.device}" for bench in state.benched)
    return f"{verdict.route}{benched}"


def verdict_header(verdict: Verdict, num_segments: int) -> str:
    """Returns the checks' verdict as a structured field: how many segments it covers, of all."""
    return (
        f"{verdict.status}; segments={verdict.segments}; of={num_segments}; "
        f"retries={verdict.retries}"
    )
