"""From s16le mono samples to the bytes of a response: one open encoder for each response.

A streamed file and a whole one hold the same samples. They differ in what only the end can tell:
a stream's WAV sizes are "unknown", its FLAC has no total and its MP3 no length; in a whole file
these are right. Opus tells its end in both. What a decoder of FFmpeg puts before the first sample
at 24 kHz (measured; a test holds it): 1105 samples for streamed MP3 (LAME's 576 + 529) and 1024
for AAC; none for whole MP3, whose LAME tag says what to cut, nor for Opus, FLAC, WAV and PCM.

Knows nothing of HTTP but the media types, and nothing of how the samples were made.
"""

from __future__ import annotations

import io
import struct
from types import TracebackType
from typing import TYPE_CHECKING

from app.audio.formats import FORMATS, AudioFormat, content_type, find_format
from app.audio.pcm import BYTES_PER_SAMPLE

if TYPE_CHECKING:
    from app.audio.container import ContainerWriter, StreamSink

__all__ = ["FORMATS", "StreamEncoder", "content_type", "encode_whole"]

#: What FFmpeg writes for a size it can't know; players then read to the end of the data.
_UNKNOWN_SIZE = 0xFFFFFFFF
_WAV_HEADER_BYTES = 44
_WAV_PCM = 1


class StreamEncoder:
    """Encodes one response piece by piece.

    Use it as a context manager, or call `abort` in a `finally`: leaving without `finish`, also by
    GeneratorExit, releases the encoder.

    Args:
        fmt: one of `FORMATS`.
        sample_rate: of the samples, in Hz.

    Raises:
        InputError: there is no such format, or it can't be made at this rate.
    """

    def __init__(self, fmt: str, sample_rate: int) -> None:
        self._format = find_format(fmt)
        self._sink: StreamSink | None = None
        self._writer: ContainerWriter | None = None
        self._header = wav_header(sample_rate, None) if fmt == "wav" else b""
        if self._format.codec:
            self._open_container(self._format, sample_rate)

    def _open_container(self, fmt: AudioFormat, sample_rate: int) -> None:
        # FFmpeg's libraries are loaded by the first response that needs them, not at the start.
        from app.audio.container import ContainerWriter, StreamSink

        self._sink = StreamSink()
        self._writer = ContainerWriter(fmt, sample_rate, self._sink)

    def encode(self, pcm: bytes) -> bytes:
        """Takes samples (s16le mono) and returns the bytes that are ready, perhaps none.

        Raises:
            ValueError: the number of bytes is odd, or the encoder is closed.
        """
        if len(pcm) % BYTES_PER_SAMPLE:
            raise ValueError("s16le samples come in pairs of bytes")
        if not self._format.codec:
            return self._take_header() + pcm
        if self._writer is None or self._sink is None:
            raise ValueError("the encoder is closed")
        self._writer.write(pcm)
        return self._sink.take()

    def finish(self) -> bytes:
        """Ends the file and returns its last bytes; a second call returns none."""
        if self._writer is None or self._sink is None:
            return self._take_header()
        writer, self._writer = self._writer, None
        writer.finish()
        return self._sink.take()

    def abort(self) -> None:
        """Releases the encoder; safe to call at any time, also after `finish`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header

    def __enter__(self) -> StreamEncoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()


def encode_whole(fmt: str, sample_rate: int, pcm: bytes) -> bytes:
    """Encodes all samples of a response (s16le mono) into one complete file.

    Args:
        fmt: one of `FORMATS`.
        sample_rate: in Hz.
        pcm: the samples.

    Raises:
        InputError: there is no such format, or it can't be made at this rate.
        ValueError: the number of bytes is odd.
    """
    entry = find_format(fmt)
    if len(pcm) % BYTES_PER_SAMPLE:
        raise ValueError("s16le samples come in pairs of bytes")
    if not entry.codec:
        return (wav_header(sample_rate, len(pcm)) if fmt == "wav" else b"") + pcm
    from app.audio.container import ContainerWriter

    file = io.BytesIO()
    writer = ContainerWriter(entry, sample_rate, file)
    try:
        writer.write(pcm)
        writer.finish()
    finally:
        writer.abort()
    return file.getvalue()


def wav_header(sample_rate: int, num_data_bytes: int | None) -> bytes:
    """Returns the 44 bytes before the samples of a 16-bit mono WAV file.

    Args:
        sample_rate: in Hz.
        num_data_bytes: size of the samples, or None where it is not known yet.
    """
    data_size = _UNKNOWN_SIZE if num_data_bytes is None else num_data_bytes
    riff_size = min(data_size + _WAV_HEADER_BYTES - 8, _UNKNOWN_SIZE)
    bytes_per_s = sample_rate * BYTES_PER_SAMPLE
    fmt = struct.pack(
        "<HHIIHH", _WAV_PCM, 1, sample_rate, bytes_per_s, BYTES_PER_SAMPLE, 8 * BYTES_PER_SAMPLE
    )
    return b"".join(
        (
            *(b"RIFF", struct.pack("<I", riff_size), b"WAVE"),
            *(b"fmt ", struct.pack("<I", len(fmt)), fmt),
            *(b"data", struct.pack("<I", data_size)),
        )
    )
