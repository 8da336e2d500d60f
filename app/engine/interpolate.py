"""Linear interpolation along time, of a sequence that arrives in pieces.

Gives what `F.interpolate(mode="linear", align_corners=False, scale_factor=scale)` gives for the
whole sequence: output j lies at (j + 0.5) / scale - 0.5 of the input, held at both edges, and
there are floor(length * scale) outputs. One thing differs: where that length equals the input's,
torch copies the input as it is (UpSample.h, `compute_source_index_and_lambda`). A stream can't
know its length beforehand and keeps to the formula.
"""

from __future__ import annotations

import torch


class InterpolateStream:
    """Stretches [1, C, T] by `scale`; the state is this object's, one for each sequence."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        # torch rounds the step to float32, but not the product with the index (a fused
        # multiply-add); both show after some thousand frames
        self._step = torch.tensor(1 / scale, dtype=torch.float32).double()
        self._kept: torch.Tensor | None = None
        self._num_dropped = 0
        self._num_out = 0

    def push(self, frames: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """Takes the next frames and returns the outputs that are sure now.

        Args:
            frames: [1, C, T], T may be 0.
            is_last: no more will come, so the last frame is held.
        """
        kept = frames if self._kept is None else torch.cat([self._kept, frames], dim=2)
        num_in = self._num_dropped + kept.shape[2]
        # int(), not floor(): as torch computes the length
        ends = torch.arange(self._num_out, int(num_in * self._scale), dtype=torch.float64)
        places: torch.Tensor = ((ends + 0.5) * self._step - 0.5).float().clamp(min=0)
        if not is_last:
            places = places[places < num_in - 1]
        left = places.floor().long().clamp(max=num_in - 1)
        right = (left + 1).clamp(max=num_in - 1)
        weight = (places - left).to(frames)  # 0 or above, below 1
        first, second = (
            kept[:, :, (index - self._num_dropped).to(frames.device)] for index in (left, right)
        )
        self._num_out += len(places)
        self._kept = self._forget(kept)
        return torch.lerp(first, second, weight)

    def _forget(self, kept: torch.Tensor) -> torch.Tensor:
        """Returns the frames without those that no later output needs; the last one stays."""
        next_place = float((self._num_out + 0.5) * self._step - 0.5)
        num_needless = min(int(max(next_place, 0)) - self._num_dropped, kept.shape[2] - 1)
        if num_needless <= 0:
            return kept
        self._num_dropped += num_needless
        return kept[:, :, num_needless:].clone()
