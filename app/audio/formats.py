"""The six formats a response can have. Knows their names and settings, not how to write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from app.errors import InputError


@dataclass(frozen=True)
class AudioFormat:
    """One format of a response.

    Attributes:
        name: as clients ask for it.
        content_type: media type of the response.
        lossless: decoding gives the samples back, each one and no more.
        codec, muxer: FFmpeg's names; empty where the bytes are written here.
        bit_rate: bit/s of mono speech, 0 for the lossless formats.
        muxer_options: FFmpeg's options of the container.
    """

    name: str
    content_type: str
    lossless: bool = False
    codec: str = ""
    muxer: str = ""
    bit_rate: int = 0
    muxer_options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


_ALL = (
    # No ID3 tag: it would only hold the encoder's name.
    AudioFormat("mp3", "audio/mpeg", False, "libmp3lame", "mp3", 128_000, {"id3v2_version": "0"}),
    # A page is what a player gets at once; FFmpeg's default of one second would delay a stream
    # by that much. 60 ms is three packets, at 28 bytes of header a page.
    AudioFormat("opus", "audio/ogg", False, "libopus", "ogg", 64_000, {"page_duration": "60000"}),
    AudioFormat("aac", "audio/aac", False, "aac", "adts", 96_000),
    # No padding: by default 8 KiB of zeros go before the first sample, for tags nobody writes.
    AudioFormat("flac", "audio/flac", True, "flac", "flac", 0, {"metadata_header_padding": "0"}),
    AudioFormat("wav", "audio/wav", True),
    AudioFormat("pcm", "audio/pcm", True),
)

#: Every format by the name that clients use.
FORMATS: Mapping[str, AudioFormat] = MappingProxyType({entry.name: entry for entry in _ALL})


def find_format(name: str) -> AudioFormat:
    """Returns the format of that name.

    Raises:
        InputError: there is no such format; the message lists those there are.
    """
    if name not in FORMATS:
        raise InputError(
            f"response_format {name[:40]!r} is not known; use one of {', '.join(FORMATS)}.",
            param="response_format",
        )
    return FORMATS[name]


def content_type(fmt: str, sample_rate: int | None = None) -> str:
    """Returns the media type of a format; raw PCM tells its rate in Hz when that is given.

    Raises:
        InputError: there is no such format.
    """
    entry = find_format(fmt)
    if fmt == "pcm" and sample_rate is not None:
        return f"{entry.content_type};rate={sample_rate};channels=1"
    return entry.content_type
