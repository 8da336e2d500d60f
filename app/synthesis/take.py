"""A take: the audio of one segment as it grows, with the seed and the try that make it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.text.plan import Segment

#: Samples of the same tokens in another batch differ by less than this on every device.
SAME_WITHIN = 0.02


@dataclass
class Take:
    """What has been made of one segment. `handed_out` samples of it have left already.

    A segment that had to be begun anew when some of it had left makes the same samples again;
    `heard` are those that the new ones must agree with.
    """

    index: int
    segment: Segment
    job_id: str
    attempt: int = 0
    chunks: list[NDArray[np.float32]] = field(default_factory=list)
    handed_out: int = 0
    num_tokens: int = 0
    is_complete: bool = False
    heard: NDArray[np.float32] | None = None

    @property
    def samples(self) -> NDArray[np.float32]:
        """All samples made so far, float32 [S]."""
        return np.concatenate(self.chunks) if self.chunks else np.zeros(0, dtype=np.float32)

    @property
    def contradicts_itself(self) -> bool:
        """True when what was made anew is not what was heard of it before."""
        if self.heard is None:
            return False
        again = self.samples[: len(self.heard)]
        return not np.allclose(again, self.heard[: len(again)], atol=SAME_WITHIN)

    def take_new(self) -> NDArray[np.float32]:
        """Returns the samples not handed out yet, and counts them as handed out."""
        new = self.samples[self.handed_out :]
        self.handed_out += len(new)
        return new
