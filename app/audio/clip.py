"""A piece of audio as a value. Knows numpy only, so that it costs nothing to import."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Clip:
    """Mono audio at its own rate.

    Attributes:
        samples: float32 [num_samples], within [-1, 1].
        sample_rate: in Hz.
    """

    samples: FloatArray
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate
