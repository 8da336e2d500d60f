"""What can be told of a piece of audio by counting, while it comes in chunks.

Knows numpy; nothing of which measure is good or bad.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.audio.clip import FloatArray
from app.audio.levels import FLOOR_DBFS, window_levels_dbfs

#: At and beyond this a sample counts as clipped; one 16-bit step below full scale.
CLIPPED_AT = 32767 / 32768
#: Under this a window is quiet. Speech lies at -25 to -40 dBFS; the pauses of clean recordings at
#: -55 to -67 (104 public-domain clips of one speaker).
QUIET_DBFS = -50.0
WINDOW_S = 0.02


@dataclass(frozen=True)
class Measures:
    """Counted over all samples so far.

    Attributes:
        duration_s: of everything.
        speech_s: of the windows that are not quiet.
        peak: largest absolute value; 1.0 is full scale.
        loudest_dbfs: level of the loudest 20 ms.
        clipped_share: of the samples, at or beyond full scale.
        dc_offset: mean of the samples.
        leading_silence_s, inner_silence_s, trailing_silence_s: quiet before the first sound, the
            longest between two sounds, and after the last.
    """

    duration_s: float
    speech_s: float
    peak: float
    loudest_dbfs: float
    clipped_share: float
    dc_offset: float
    leading_silence_s: float
    inner_silence_s: float
    trailing_silence_s: float


class Meter:
    """Adds chunks up; the same samples give the same measures however they are cut."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._num_window = max(1, round(sample_rate * WINDOW_S))
        self._rest: FloatArray = np.zeros(0, dtype=np.float32)
        self._levels: list[float] = []
        self._num_samples = self._num_clipped = 0
        self._sum = self._peak = 0.0
        self.is_finite = True

    @property
    def duration_s(self) -> float:
        """Length of everything so far, in seconds."""
        return self._num_samples / self._rate

    def add(self, samples: FloatArray) -> None:
        """Counts a chunk; one with values that are not finite only clears `is_finite`."""
        self._num_samples += len(samples)
        if not np.isfinite(samples).all():
            self.is_finite = False
            return
        if not len(samples):
            return
        magnitude = np.abs(samples)
        self._num_clipped += int(np.count_nonzero(magnitude >= CLIPPED_AT))
        self._peak = max(self._peak, float(magnitude.max()))
        self._sum += float(samples.sum(dtype=np.float64))
        pending = np.concatenate((self._rest, samples))
        self._levels += window_levels_dbfs(pending, self._num_window).tolist()
        self._rest = pending[len(pending) - len(pending) % self._num_window :]

    def measures(self) -> Measures:
        """Returns the measures of all samples so far."""
        # The end that fills no window counts as one, so that a last short sound is not missed.
        tail = window_levels_dbfs(self._rest, len(self._rest)).tolist() if len(self._rest) else []
        levels = np.array(self._levels + tail)
        loud = np.flatnonzero(levels >= QUIET_DBFS)
        gaps = np.diff(loud) - 1
        num = max(1, self._num_samples)
        return Measures(
            duration_s=self.duration_s,
            speech_s=min(len(loud) * WINDOW_S, self.duration_s),
            peak=self._peak,
            loudest_dbfs=float(levels.max()) if len(levels) else FLOOR_DBFS,
            clipped_share=self._num_clipped / num,
            dc_offset=self._sum / num,
            leading_silence_s=float(loud[0]) * WINDOW_S if len(loud) else self.duration_s,
            inner_silence_s=float(gaps.max()) * WINDOW_S if len(gaps) else 0.0,
            trailing_silence_s=float(len(levels) - 1 - loud[-1]) * WINDOW_S if len(loud) else 0.0,
        )
