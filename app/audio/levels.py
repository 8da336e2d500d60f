"""Loudness over short windows, in dB relative to full scale. Knows nothing of what is normal.

0 dBFS is the power of a constant at full scale; a full-scale sine has -3.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.audio.clip import FloatArray

#: Level of digital silence; keeps the logarithm finite.
FLOOR_DBFS = -120.0
_FLOOR_POWER = 10 ** (FLOOR_DBFS / 10)
_LOUDEST_WINDOW_S = 0.05


def window_levels_dbfs(samples: FloatArray, num_window: int) -> npt.NDArray[np.float64]:
    """Returns the level of each whole window; what is left at the end counts for nothing.

    Args:
        samples: [num_samples] in [-1, 1].
        num_window: samples in a window.

    Returns:
        [num_samples // num_window] dBFS.
    """
    num_windows = len(samples) // num_window
    windows = samples[: num_windows * num_window].reshape(num_windows, num_window)
    power = np.mean(np.square(windows, dtype=np.float64), axis=1)
    levels: npt.NDArray[np.float64] = 10.0 * np.log10(np.maximum(power, _FLOOR_POWER))
    return levels


def loudest_dbfs(samples: FloatArray, sample_rate: int) -> float:
    """Returns the level of the loudest 50 ms; of all samples where there are fewer."""
    if not len(samples):
        return FLOOR_DBFS
    num_window = min(max(1, int(sample_rate * _LOUDEST_WINDOW_S)), len(samples))
    return float(window_levels_dbfs(samples, num_window).max())
