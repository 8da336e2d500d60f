"""How recordings are cut and levelled for a model that was trained on levelled ones.

A model knows speech at the level it was trained at. XTTS-v2 was given recordings as they were, and
so is it here; the built-in voice was given them cut to the speech and brought to one peak, and
hears others as something it never met: its loss on the same clips is 4.1 nats instead of 2.4. So a
bundle says which it is, in `training/recordings.json`. Needs no torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.audio.clip import Clip
from app.errors import ModelFileError
from app.models.bundles import Bundle
from app.models.config import read_json

LEVELLING_FILE = "training/recordings.json"
_BLOCK = 240
_SMALLEST_PEAK = 1e-4

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Levelling:
    """What is done to a recording.

    Attributes:
        peak: that it is brought to; full scale is 1.
        edge_s: seconds of quiet that stay at both ends.
        edge_share: a block of 240 samples is speech where its peak reaches this share of the
            recording's.
    """

    peak: float = 0.6
    edge_s: float = 0.05
    edge_share: float = 0.02  # -34 dB

    def __call__(self, samples: FloatArray, rate: int) -> FloatArray:
        """Returns a recording [S], cut and levelled; one without speech as it is."""
        speech, _ = self.cut(samples, rate)
        return self.level(speech if len(speech) else samples)

    def cut(self, samples: FloatArray, rate: int) -> tuple[FloatArray, float]:
        """Cuts silence off both ends; returns the rest and the seconds cut off in front."""
        blocks = len(samples) // _BLOCK
        peaks = np.abs(samples[: blocks * _BLOCK]).reshape(blocks, -1).max(1)
        loud = np.flatnonzero(peaks > self.edge_share * peaks.max(initial=1e-9))
        if not len(loud):
            return samples[:0], 0.0
        edge = int(self.edge_s * rate)
        start = max(0, int(loud[0]) * _BLOCK - edge)
        return samples[start : (int(loud[-1]) + 1) * _BLOCK + edge], start / rate

    def level(self, samples: FloatArray) -> FloatArray:
        """Brings the peak to where it belongs."""
        highest = max(float(np.abs(samples).max(initial=0.0)), _SMALLEST_PEAK)
        made: FloatArray = samples * np.float32(self.peak / highest)
        return made

    def as_dict(self) -> dict[str, Any]:
        """Returns the content of `recordings.json`."""
        return asdict(self)


def levelling_of(bundle: Bundle) -> Levelling | None:
    """Returns how recordings are levelled for a model; None where they stay as they are.

    Raises:
        ModelFileError: the file is there and can't be used.
    """
    path = bundle.folder / LEVELLING_FILE
    if not path.is_file():
        return None
    try:
        return Levelling(**{name: float(value) for name, value in read_json(path).items()})
    except (TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path} does not say how recordings are levelled ({error}); copy the bundle again."
        ) from error


def levelled(clip: Clip, levelling: Levelling | None) -> Clip:
    """Returns a clip as a model is to hear it."""
    if levelling is None:
        return clip
    return Clip(levelling(clip.samples, clip.sample_rate), clip.sample_rate)
