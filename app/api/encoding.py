"""Runs an encoder beside the event loop: in threads, one call at a time.

Knows nothing of HTTP; the codecs are in `app.audio`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.api.presence import in_thread
from app.audio.encode import StreamEncoder


class ThreadedEncoder:
    """A `StreamEncoder` whose work happens in threads."""

    def __init__(self, encoder: StreamEncoder) -> None:
        self._encoder = encoder

    async def encode(self, pcm: bytes) -> bytes:
        """Takes samples (s16le mono) and returns the bytes that are ready, perhaps none."""
        return await in_thread(self._encoder.encode, pcm)

    async def finish(self) -> bytes:
        """Ends the file and returns its last bytes."""
        return await in_thread(self._encoder.finish)


@asynccontextmanager
async def open_encoder(fmt: str, sample_rate: int) -> AsyncIterator[ThreadedEncoder]:
    """Opens an encoder for one response; it is released when the block is left."""
    encoder = await in_thread(StreamEncoder, fmt, sample_rate)
    try:
        yield ThreadedEncoder(encoder)
    finally:
        encoder.abort()
