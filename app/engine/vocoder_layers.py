"""The layers of HiFi-GAN, for a sequence that arrives in pieces.

Every layer keeps the little it needs of the past and holds back what still waits for the future,
so each output is computed once and the whole equals the plain layers over the whole sequence. All
take and give [1, channels, T] with T from 0; the state is the object's own, one for each sequence.
Knows nothing of latents or sample rates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from app.engine.vocoder_weights import BlockWeights, ConvWeights, UpsampleWeights

_SLOPE = 0.1  # hifigan_generator.py, LRELU_SLOPE


class ConvStream:
    """A convolution that keeps the length, with zeros beyond both ends."""

    def __init__(self, weights: ConvWeights) -> None:
        self._weights = weights
        self._kept = weights.weight.new_zeros(1, weights.weight.shape[1], weights.padding)

    def push(self, frames: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """Takes the next frames; gives those whose right neighbours are there."""
        conv = self._weights
        parts = [self._kept, frames]
        if is_last:
            parts.append(frames.new_zeros(1, frames.shape[1], conv.padding))
        joined = torch.cat(parts, dim=2)
        num_out = joined.shape[2] - 2 * conv.padding
        if num_out <= 0:
            self._kept = joined
            return frames.new_empty(1, conv.weight.shape[0], 0)
        self._kept = joined[:, :, num_out:].clone()
        return F.conv1d(joined, conv.weight, conv.bias, dilation=conv.dilation)


class UpsampleStream:
    """A transposed convolution; what a frame adds beyond its own place is kept for the next."""

    def __init__(self, weights: ConvWeights, rate: int) -> None:
        _, channels, kernel = weights.weight.shape
        self._weights = weights
        self._rate = rate
        self._trim = (kernel - rate) // 2
        self._num_to_skip = self._trim
        self._overlap = weights.weight.new_zeros(1, channels, kernel - rate)

    def push(self, frames: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """Takes T frames; gives T * rate, less what is trimmed at either end of the sequence."""
        summed = self._overlap
        if frames.shape[2]:
            summed = F.conv_transpose1d(frames, self._weights.weight, stride=self._rate)
            summed[:, :, : self._overlap.shape[2]] += self._overlap
        num_done = frames.shape[2] * self._rate
        self._overlap = summed[:, :, num_done:].clone()
        if is_last:
            num_done = summed.shape[2] - self._trim
        skipped = min(self._num_to_skip, num_done)
        self._num_to_skip -= skipped
        done = summed[:, :, skipped:num_done]
        return done if self._weights.bias is None else done + self._weights.bias[:, None]


class StageStream:
    """One stage of a residual block: its convolutions, added to the input they came from."""

    def __init__(self, convs: tuple[ConvWeights, ...]) -> None:
        self._convs = [ConvStream(conv) for conv in convs]
        self._waiting: torch.Tensor | None = None

    def push(self, frames: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """Takes the next frames; gives the sums that are complete."""
        waiting = frames if self._waiting is None else torch.cat([self._waiting, frames], dim=2)
        changed = frames
        for conv in self._convs:
            changed = conv.push(F.leaky_relu(changed, _SLOPE), is_last=is_last)
        num_out = changed.shape[2]
        self._waiting = waiting[:, :, num_out:].clone()
        return changed.add_(waiting[:, :, :num_out])


class BlockStream:
    """A residual block, with a queue for outputs that wait for the slower blocks beside it."""

    def __init__(self, weights: BlockWeights) -> None:
        self._stages = [StageStream(convs) for convs in weights.stages]
        self._done: torch.Tensor | None = None

    def push(self, frames: torch.Tensor, *, is_last: bool) -> int:
        """Takes the next frames; returns how many outputs wait to be taken."""
        for stage in self._stages:
            frames = stage.push(frames, is_last=is_last)
        self._done = frames if self._done is None else torch.cat([self._done, frames], dim=2)
        return self._done.shape[2]

    def take(self, num_frames: int) -> torch.Tensor:
        """Returns the oldest `num_frames` waiting outputs."""
        assert self._done is not None, "push comes before take"
        taken = self._done[:, :, :num_frames]
        self._done = self._done[:, :, num_frames:].clone()
        return taken


class LayerStream:
    """One upsampling layer: upsample, add the speaker, then the mean of the residual blocks."""

    def __init__(self, weights: UpsampleWeights, speaker_embedding: torch.Tensor) -> None:
        self._up = UpsampleStream(weights.up, weights.rate)
        self._speaker = None
        if weights.speaker is not None:
            self._speaker = project_speaker(weights.speaker, speaker_embedding)
        self._blocks = [BlockStream(block) for block in weights.blocks]

    def push(self, frames: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """Takes the next frames; gives those that every block has finished."""
        frames = self._up.push(F.leaky_relu(frames, _SLOPE), is_last=is_last)
        if self._speaker is not None:
            frames = frames + self._speaker
        num_ready = min([block.push(frames, is_last=is_last) for block in self._blocks])
        first, *others = [block.take(num_ready) for block in self._blocks]
        for other in others:
            first = first + other
        return first / len(self._blocks)


def project_speaker(weights: ConvWeights, speaker_embedding: torch.Tensor) -> torch.Tensor:
    """Returns what a speaker adds to every frame, [1, channels, 1]."""
    return F.conv1d(speaker_embedding.to(weights.weight), weights.weight, weights.bias)
