"""Decodes what a server sent, to see how long it really is."""

from __future__ import annotations

import io
import wave

import av

SAMPLE_RATE = 24_000
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
TEXT = "The wind rose."

#: Samples at 24 kHz that a codec may add: its delay before the first, and a frame to fill the last
#: (MP3 576 + 529 and 1152, AAC 1024 and 1024, Opus a resampler's rounding).
_MAX_EXTRA = {"mp3": 2400, "aac": 2400, "opus": 960}


def num_samples(data: bytes, fmt: str) -> int:
    """Returns the number of samples, at 24 kHz, that a decoder makes of a file."""
    if fmt == "pcm":
        return len(data) // 2
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    return round(sum(frame.samples for frame in frames) * SAMPLE_RATE / frames[0].sample_rate)


def check_length(data: bytes, fmt: str, pcm: bytes) -> None:
    """Checks that a file is as long as the samples of the same seeded request."""
    extra = num_samples(data, fmt) - len(pcm) // 2
    assert 0 <= extra <= _MAX_EXTRA.get(fmt, 0), f"{fmt}: {extra} samples too many"


def samples_of(data: bytes, fmt: str) -> bytes:
    """Returns the s16le samples of a lossless file."""
    if fmt == "pcm":
        return data
    if fmt == "wav":
        return data[44:] if data[40:44] == b"\xff" * 4 else _wav_samples(data)
    with av.open(io.BytesIO(data)) as container:
        frames = [frame.to_ndarray().astype("<i2").tobytes() for frame in container.decode(audio=0)]
    return b"".join(frames)


def _wav_samples(data: bytes) -> bytes:
    with wave.open(io.BytesIO(data)) as file:
        return file.readframes(file.getnframes())
