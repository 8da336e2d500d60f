"""Samples as 16-bit integers and as floats. Knows nothing of containers or of what is heard."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.audio.clip import FloatArray
from app.errors import OutputError

BYTES_PER_SAMPLE = 2
_FULL_SCALE = 32768.0


def to_s16(samples: npt.NDArray[np.floating]) -> bytes:
    """Turns floats in [-1, 1] into little-endian signed 16-bit samples.

    Rounds to the nearest step; what lies outside [-1, 1] is held at full scale. The scale is
    32768, as in `from_s16`, so that s16 -> float -> s16 gives the same bytes.

    Args:
        samples: any float type, [num_samples].

    Raises:
        OutputError: a sample is not finite; it has no place on the scale.
    """
    scaled = np.rint(np.asarray(samples, dtype=np.float32) * _FULL_SCALE)
    if not np.isfinite(scaled).all():
        raise OutputError(
            "The audio made holds values that are not finite; try again with another seed.",
            code="non_finite",
        )
    steps: npt.NDArray[np.int16] = np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2")
    return steps.tobytes()


def from_s16(pcm: bytes) -> FloatArray:
    """Turns little-endian signed 16-bit samples into float32 [num_samples] in [-1, 1).

    Raises:
        ValueError: the number of bytes is odd.
    """
    samples: FloatArray = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
    samples /= np.float32(_FULL_SCALE)
    return samples
