"""One open encoder and the container around it, through PyAV, in memory.

Knows FFmpeg; nothing of HTTP or of which formats are offered. The api process imports it with the
first response that needs it.
"""

from __future__ import annotations

import io
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream

from app.audio.formats import AudioFormat
from app.errors import InputError


class StreamSink:
    """A file that can only be written forwards; what was written is taken away in pieces.

    It has no `seek`, so FFmpeg never goes back to complete a header: what was taken stays true.
    """

    def __init__(self) -> None:
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        """Keeps `data` until it is taken (PyAV calls this)."""
        self._pending += data
        return len(data)

    def take(self) -> bytes:
        """Returns what was written since the last call."""
        taken = bytes(self._pending)
        self._pending.clear()
        return taken


class ContainerWriter:
    """Encodes s16le mono samples into one container.

    Args:
        fmt: which codec and container.
        sample_rate: of the samples, in Hz. Where the codec has no such rate, the audio is
            resampled to the next higher one it has.
        sink: takes the bytes; FFmpeg completes the header at the end if the sink can seek.

    Raises:
        InputError: the codec cannot be opened with this rate.
    """

    def __init__(self, fmt: AudioFormat, sample_rate: int, sink: StreamSink | io.BytesIO) -> None:
        self._sample_rate = sample_rate
        self._num_samples = 0
        rate = nearest_rate(fmt.codec, sample_rate)
        self._container = av.open(
            sink, "w", format=fmt.muxer, container_options=dict(fmt.muxer_options)
        )
        try:
            stream = self._container.add_stream(fmt.codec, rate=rate, layout="mono")
            self._stream = cast(AudioStream, stream)
            if fmt.bit_rate:
                self._stream.bit_rate = fmt.bit_rate
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            self._container.close()
            raise InputError(
                f"response_format {fmt.name!r} can't be made at {sample_rate} Hz: choose wav.",
                param="response_format",
            ) from error

    def write(self, pcm: bytes) -> None:
        """Encodes samples (s16le mono, any number of them)."""
        samples = np.frombuffer(pcm, dtype="<i2").reshape(1, -1)
        if not samples.size:
            return
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = self._sample_rate
        frame.pts = self._num_samples
        self._num_samples += samples.size
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Writes what the encoder still holds, then closes the container.

        The last page of an Ogg stream is only written when the container closes, so the sink is
        complete after this call and not before.
        """
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abort(self) -> None:
        """Releases encoder and container; what they still hold is dropped."""
        self._container.close()


def nearest_rate(codec: str, sample_rate: int) -> int:
    """Returns the codec's own rate that is the same or the next higher, in Hz.

    Opus has 8, 12, 16, 24 and 48 kHz (RFC 6716, section 2); MP3 and AAC have fixed lists; FLAC
    takes any. A rate above all of the codec's gives its highest.
    """
    rates = av.Codec(codec, "w").audio_rates
    if not rates:
        return sample_rate
    return min((rate for rate in rates if rate >= sample_rate), default=max(rates))
