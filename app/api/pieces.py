"""The body of a streamed answer, piece by piece: raw bytes of one container, or events.

Knows encoders and events; nothing of connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from app.api.encoding import ThreadedEncoder, open_encoder
from app.api.events import KEEP_ALIVE, delta_event, done_event
from app.api.order import SpeechOrder
from app.api.progress import SpeechProgress
from app.messages import Audio

#: Proxies commonly cut a connection that was silent for 60 s.
KEEP_ALIVE_PAUSE_S = 15.0


async def raw_pieces(
    order: SpeechOrder, progress: SpeechProgress, first: Audio
) -> AsyncIterator[bytes]:
    """Yields one container's bytes as they become ready; never an empty piece.

    Raises:
        AudioVoiceError: the request failed on the way.
    """
    async with open_encoder(order.audio_format, order.sample_rate) as encoder:
        audio: Audio | None = first
        while audio is not None:
            if piece := await encoder.encode(audio.pcm):
                yield piece
            audio = await progress.next_audio()
        if piece := await encoder.finish():
            yield piece


async def event_pieces(
    order: SpeechOrder,
    progress: SpeechProgress,
    first: Audio,
    pause_s: float = KEEP_ALIVE_PAUSE_S,
) -> AsyncIterator[bytes]:
    """Yields events: deltas of one container's bytes, then `done`; comments in long pauses.

    Raises:
        AudioVoiceError: the request failed on the way; the caller sends the event for it.
    """
    async with open_encoder(order.audio_format, order.sample_rate) as encoder:
        if piece := await encoder.encode(first.pcm):
            yield delta_event(piece)
        async for audio in _with_pauses(progress, pause_s):
            event = KEEP_ALIVE if audio is None else await _delta_of(encoder, audio)
            if event:
                yield event
        if piece := await encoder.finish():
            yield delta_event(piece)
    done = progress.done
    yield done_event(done.text_tokens, done.audio_tokens) if done else done_event(0, 0)


async def _delta_of(encoder: ThreadedEncoder, audio: Audio) -> bytes:
    piece = await encoder.encode(audio.pcm)
    return delta_event(piece) if piece else b""


async def _with_pauses(progress: SpeechProgress, pause_s: float) -> AsyncIterator[Audio | None]:
    """Yields the remaining audio, and None whenever nothing came for `pause_s` seconds."""
    while True:
        pending = asyncio.ensure_future(progress.next_audio())
        try:
            while not (await asyncio.wait({pending}, timeout=pause_s))[0]:
                yield None
            audio = pending.result()
        finally:
            pending.cancel()
            await asyncio.wait({pending})
        if audio is None:
            return
        yield audio
