"""What one recording is like: read once, measured, summed up in a few numbers.

Knows the shape of faulty endings; which number is too high is for `checks` to say. No torch, so
that the processes that measure start quickly.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from app.audio.clip import Clip, FloatArray
from app.audio.decode import decode_clip
from app.audio.levels import loudest_dbfs, window_levels_dbfs
from app.audio.measures import QUIET_DBFS, WINDOW_S, Meter
from app.errors import InputError, MediaTypeError, TooLargeError
from app.files import sha256_of_bytes

#: Raised whenever the same recording would give other numbers: remembered ones are then stale.
FACTS_VERSION = 1
#: Decoding stops here: nobody means such a file for one clip.
_LONGEST_READ_S = 600.0
#: An ending without the ups and downs of speech: its 20 ms levels stay within so many dB.
_STEADY_SPREAD_DB = 6.0
#: Fricatives and vowels last 0.3 s and less; even sung ones swell and fall by more than the spread.
STEADY_TAIL_S = 0.8
#: A click or a cut-off word: a last sound so short, after a pause so long, in seconds.
_CLICK_S = 0.08
_PAUSE_BEFORE_CLICK_S = 0.4
#: Fainter blips (a mouse, lips; met at -48 dBFS in good recordings) do no harm.
_CLICK_DBFS = -40.0
#: The loudness of speech and of what lies under it: these shares of the 20 ms windows are below.
_SPEECH_PERCENTILE, _FLOOR_PERCENTILE = 90, 5
#: The kind of finding for each code of an error of decoding; all others are `unreadable`.
_FAULT_OF_CODE = {
    "clip_too_short": "too_short",
    "clip_too_long": "too_long",
    "silent": "silent",
    "non_finite": "non_finite",
    "sample_rate": "sample_rate",
}


@dataclass(frozen=True)
class AudioFacts:
    """Numbers of one recording; `fault` and `detail` say why it could not be measured.

    Levels are in dBFS, times in seconds. `sha256` is of the file, "" where there is none.
    """

    sha256: str = ""
    fault: str = ""
    detail: str = ""
    duration_s: float = 0.0
    sample_rate: int = 0
    loudest_dbfs: float = 0.0
    clipped_share: float = 0.0
    leading_s: float = 0.0
    inner_s: float = 0.0
    trailing_s: float = 0.0
    noise_tail_s: float = 0.0
    ends_in_click: bool = False
    noise_distance_db: float = 0.0


def read_recording(content: bytes) -> Clip:
    """Decodes a file's content as PyAV reads it, or else as libsndfile does.

    Raises:
        InputError: it is silent, empty, not finite, or at a rate below 8 kHz.
        MediaTypeError: neither reads it.
        TooLargeError: it is longer than ten minutes.
    """
    try:
        return decode_clip(content, max_s=_LONGEST_READ_S, min_s=0.0, param="audio")
    except MediaTypeError as error:
        return _read_with_libsndfile(content, error)


def _read_with_libsndfile(content: bytes, first: MediaTypeError) -> Clip:
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.frames > _LONGEST_READ_S * file.samplerate:
                raise TooLargeError("it is longer than ten minutes", code="clip_too_long")
            frames = file.read(file.frames, dtype="float32", always_2d=True)
            samples = frames.mean(axis=1, dtype=np.float32)
            rate = int(file.samplerate)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise first from error
    if rate < 8000:
        raise InputError(f"its sample rate is {rate} Hz", code="sample_rate")
    if not np.isfinite(samples).all():
        raise InputError("it holds values that are not finite", code="non_finite")
    return Clip(samples / max(1.0, float(np.abs(samples).max(initial=0.0))), rate)


def measure_file(path: Path, known: dict[str, AudioFacts] | None = None) -> AudioFacts:
    """Reads and measures a file.

    Args:
        path: the file; it may be absent or broken.
        known: facts by the hash of the content; what is in there is not measured again.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return AudioFacts(fault="missing", detail=f"{path} does not exist")
    except OSError as error:
        return AudioFacts(fault="unreadable", detail=f"{path}: {error.strerror}")
    sha256 = sha256_of_bytes(content)
    if known is not None and sha256 in known:
        return known[sha256]
    try:
        return measure_clip(read_recording(content), sha256)
    except InputError as error:
        fault = _FAULT_OF_CODE.get(error.code, "unreadable")
        return AudioFacts(sha256, fault, _short(error.message, len(content)))


def measure_clip(clip: Clip, sha256: str) -> AudioFacts:
    """Measures samples whose file has the hash `sha256`."""
    meter = Meter(clip.sample_rate)
    meter.add(clip.samples)
    measures = meter.measures()
    levels = window_levels_dbfs(clip.samples, max(1, round(clip.sample_rate * WINDOW_S)))
    return AudioFacts(
        sha256=sha256,
        duration_s=clip.duration_s,
        sample_rate=clip.sample_rate,
        loudest_dbfs=loudest_dbfs(clip.samples, clip.sample_rate),
        clipped_share=measures.clipped_share,
        leading_s=measures.leading_silence_s,
        inner_s=measures.inner_silence_s,
        trailing_s=measures.trailing_silence_s,
        noise_tail_s=steady_tail_s(levels),
        ends_in_click=ends_in_click(levels),
        noise_distance_db=_noise_distance_db(clip.samples, levels),
    )


def steady_tail_s(levels: npt.NDArray[np.float64]) -> float:
    """Returns how long the end sounds without rising or falling, in seconds; silence has 0.

    Hum, hiss and a fan are steady; speech changes its level by more than 6 dB from one syllable to
    the next.

    Args:
        levels: [num_windows] of 20 ms each, in dBFS.
    """
    if not len(levels):
        return 0.0
    highest = np.maximum.accumulate(levels[::-1])
    lowest = np.minimum.accumulate(levels[::-1])
    moved = np.flatnonzero(highest - lowest > _STEADY_SPREAD_DB)
    num_steady = int(moved[0]) if len(moved) else len(levels)
    tail = levels[len(levels) - num_steady :]
    return num_steady * WINDOW_S if float(np.median(tail)) >= QUIET_DBFS else 0.0


def ends_in_click(levels: npt.NDArray[np.float64]) -> bool:
    """Says whether the last sound is a blip after a pause: a click, or the next word cut off.

    Args:
        levels: [num_windows] of 20 ms each, in dBFS.
    """
    loud = np.flatnonzero(levels >= QUIET_DBFS)
    if len(loud) < 2:
        return False
    gaps = np.diff(loud) - 1
    pauses = np.flatnonzero(gaps * WINDOW_S >= _PAUSE_BEFORE_CLICK_S)
    if not len(pauses):
        return False
    first = loud[pauses[-1] + 1]
    is_short = (loud[-1] - first + 1) * WINDOW_S <= _CLICK_S
    return bool(is_short and levels[first : loud[-1] + 1].max() >= _CLICK_DBFS)


def _noise_distance_db(samples: FloatArray, levels: npt.NDArray[np.float64]) -> float:
    """Returns by how much speech is louder than the quietest moments, in dB."""
    if not len(samples) or not len(levels):
        return 0.0
    speech, floor = np.percentile(levels, (_SPEECH_PERCENTILE, _FLOOR_PERCENTILE))
    return float(speech - floor)


def _short(message: str, num_bytes: int) -> str:
    """Takes the part of an upload's message that says what was seen."""
    seen = message.split(":")[0].removeprefix("audio ")
    return f"{seen} ({num_bytes} bytes)" if num_bytes < 1000 else seen
