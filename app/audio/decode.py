"""From the bytes of an upload to samples, with every limit kept while decoding.

The bytes are hostile until shown otherwise. Only containers and codecs of the lists below are
tried, found by content, never by a name or a declared type. Playlists and scripts that name other
files (HLS, concat, DASH, image sequences) are not among them, and no protocol is open, so nothing
but the bytes given can be read. Decoding stops at the first sample past the limit: a file that
unfolds to hours costs no more memory than one that is just too long.

A block that can't be decoded refuses the whole upload. Ogg and FLAC find the next good block by
themselves, so there a hole shortens the audio by what lay in it.

Knows PyAV; nothing of HTTP or of voices.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, NoReturn

import av
import numpy as np
import numpy.typing as npt

from app.audio.clip import Clip, FloatArray
from app.audio.levels import loudest_dbfs
from app.errors import InputError, MediaTypeError, TooLargeError

__all__ = ["Clip", "decode_clip"]

#: FFmpeg's names of containers that hold their audio themselves.
DEMUXERS = (
    "wav",
    "w64",
    "flac",
    "ogg",
    "mp3",
    "mov",
    "matroska",
    "aiff",
    "caf",
    "aac",
    "au",
    "amr",
)
#: FFmpeg's names of the audio decoders that those containers are met with.
DECODERS = (
    *("flac", "alac", "mp3", "mp3float", "aac", "opus", "libopus", "vorbis", "libvorbis"),
    *("amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "adpcm_ms", "adpcm_ima_wav"),
    *("pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le"),
    *("pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw"),
)
_OPTIONS = {
    "format_whitelist": ",".join(DEMUXERS),
    "codec_whitelist": ",".join(DECODERS),
    "protocol_whitelist": "none",  # no protocol has this name
}
#: A block whose checksum is wrong is noise: FFmpeg would play it by default.
_DECODER_OPTIONS = {"err_detect": "crccheck+explode"}

PARAM = "audio_sample"
MIN_RATE = 8_000  # telephone speech; a voice can't be cloned from less
MAX_RATE = 192_000
#: PyAV 18 reads past the end of FFmpeg's eight plane pointers (AV_NUM_DATA_POINTERS) for planar
#: frames of more channels, and the process dies of it; 8 is 7.1 surround.
MAX_CHANNELS = 8
#: Below this even its loudest 50 ms hold no voice; quiet rooms record at about -60 dBFS.
SILENT_DBFS = -55.0
_REMEDY = "upload a recording of one voice as WAV, FLAC, MP3, Ogg, M4A or WebM"


def decode_clip(
    data: bytes, *, max_s: float, min_s: float, max_rate: int = MAX_RATE, param: str = PARAM
) -> Clip:
    """Decodes an upload to mono at its own sample rate; channels are averaged.

    Float files that go past full scale are scaled down so that they fit.

    Args:
        data: the whole upload.
        max_s: longest audio, in seconds; decoding stops there.
        min_s: shortest audio, in seconds.
        max_rate: highest sample rate, in Hz.
        param: the request field that errors name.

    Raises:
        MediaTypeError: not audio, audio of a kind that is not read, or damaged.
        TooLargeError: longer than `max_s`.
        InputError: shorter than `min_s`, silent, not finite, or at a sample rate out of range.
    """
    try:
        blocks, rate = _read_blocks(data, max_s, max_rate, param)
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise MediaTypeError(
            f"{param} is no audio that can be read: {_REMEDY}.", param=param
        ) from error
    samples = np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)
    return Clip(_check_samples(samples, rate, min_s, param), rate)


def _read_blocks(
    data: bytes, max_s: float, max_rate: int, param: str
) -> tuple[list[FloatArray], int]:
    """Decodes the first audio stream, at most `max_s` of it."""
    blocks: list[FloatArray] = []
    num_samples = rate = 0
    with av.open(
        io.BytesIO(data),
        "r",
        options=dict(_OPTIONS),
        metadata_errors="replace",
    ) as container:
        for frame in _frames(container, param):
            rate = rate or _checked_rate(frame.sample_rate, max_rate, param)
            if frame.sample_rate != rate:
                _refuse(f"{param} changes its sample rate on the way: {_REMEDY}.", param)
            if frame.layout.nb_channels > MAX_CHANNELS:
                _refuse(f"{param} has more than {MAX_CHANNELS} channels: {_REMEDY}.", param)
            blocks.append(_mono(frame))
            num_samples += frame.samples
            if num_samples > max_s * rate:
                raise TooLargeError(
                    f"{param} is longer than {max_s:g} s: cut it to the best part.",
                    param=param,
                    code="clip_too_long",
                )
    return blocks, rate


def _frames(container: av.container.InputContainer, param: str) -> Iterator[av.AudioFrame]:
    if not container.streams.audio:
        _refuse(f"{param} holds no audio track: {_REMEDY}.", param)
    stream = container.streams.audio[0]
    # PyAV looks a stream's decoder up by itself, so FFmpeg's list alone does not bind it.
    if stream.codec_context is None or stream.codec_context.codec.name not in DECODERS:
        _refuse(f"{param} is audio of a kind that is not read here: {_REMEDY}.", param)
    stream.codec_context.options = dict(_DECODER_OPTIONS)
    yield from container.decode(stream)


def _refuse(message: str, param: str) -> NoReturn:
    raise MediaTypeError(message, param=param)


def _checked_rate(rate: int, max_rate: int, param: str) -> int:
    if not MIN_RATE <= rate <= max_rate:
        raise InputError(
            f"{param} has a sample rate of {rate} Hz: resample it to between {MIN_RATE} and"
            f" {max_rate} Hz.",
            param=param,
            code="sample_rate",
        )
    return rate


def _mono(frame: av.AudioFrame) -> FloatArray:
    """Returns the mean of the frame's channels as float32 [num_samples] in [-1, 1]."""
    values: npt.NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    # A second float64 copy of one frame (some 20 ms) is small; of a whole clip it would not be.
    mean: npt.NDArray[np.float64] = values.mean(axis=0, dtype=np.float64)
    if values.dtype == np.uint8:
        mean = mean / 128.0 - 1.0
    elif values.dtype.kind == "i":
        mean = mean / 2.0 ** (8 * values.dtype.itemsize - 1)
    return mean.astype(np.float32)


def _check_samples(samples: FloatArray, rate: int, min_s: float, param: str) -> FloatArray:
    duration_s = len(samples) / rate if rate else 0.0
    if not len(samples) or duration_s < min_s:
        raise InputError(
            f"{param} has {duration_s:.2f} s of audio, at least {min_s:g} s are needed: upload a"
            " longer recording.",
            param=param,
            code="clip_too_short",
        )
    if not np.isfinite(samples).all():
        raise InputError(
            f"{param} holds values that are not finite: export it again as 16-bit WAV or FLAC.",
            param=param,
            code="non_finite",
        )
    peak = float(np.abs(samples).max())
    scaled = samples / np.float32(peak) if peak > 1.0 else samples
    level = loudest_dbfs(scaled, rate)
    if level < SILENT_DBFS:
        raise InputError(
            f"{param} is silent (its loudest moment is at {level:.0f} dBFS): upload a recording in"
            " which the voice is heard.",
            param=param,
            code="silent",
        )
    return scaled
