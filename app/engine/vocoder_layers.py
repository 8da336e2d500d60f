"""The layers of HiFi-GAN, for a sequence that arrives in pieces.

Every layer keeps the little it needs of the past and holds back what still waits for the future,
so each output is computed once and the whole equals the plain layers over the whole sequence. All
take and give [T, channels] with T from 0; what belongs to one sequence is a stream, what all share
is a layer. Knows nothing of latents or sample rates.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from app.engine.convolution import Convolution
from app.engine.generator import SLOPE
from app.engine.vocoder_weights import BlockWeights, ConvWeights, UpsampleWeights


class ConvLayer:
    """A convolution that keeps the length, with zeros beyond both ends."""

    def __init__(self, weights: ConvWeights, slope: float | None = None) -> None:
        self.convolution = Convolution(weights, slope)
        self.padding = weights.padding
        num_out, num_in, _ = weights.weight.shape
        self.edge = weights.weight.new_zeros(weights.padding, num_in)
        self.nothing = weights.weight.new_zeros(0, num_out)


class UpsampleLayer:
    """A transposed convolution as one product: frame t adds to outputs t * rate and on."""

    def __init__(self, weights: ConvWeights, rate: int) -> None:
        num_in, num_out, kernel = weights.weight.shape
        #: blocks of `rate` outputs that one frame reaches into
        self.reach = math.ceil(kernel / rate)
        taps = F.pad(weights.weight, (0, self.reach * rate - kernel))
        # [in, out, taps] to [taps * out, in]: a product then gives outputs in their order
        self.matrix = taps.permute(2, 1, 0).reshape(-1, num_in).contiguous()
        self.bias = weights.bias
        self.rate = rate
        self.num_out = num_out
        self.trim = (kernel - rate) // 2
        self.num_beyond = kernel - rate


class BlockLayer:
    """A residual block: stages of one or two convolutions, each stage added to its input."""

    def __init__(self, weights: BlockWeights) -> None:
        # between two convolutions of a stage there is a leaky ReLU, which the first one applies
        self.stages = [
            [
                ConvLayer(conv, SLOPE if place + 1 < len(convs) else None)
                for place, conv in enumerate(convs)
            ]
            for convs in weights.stages
        ]


class StackLayer:
    """One upsampling layer: upsample, add the speaker, then the mean of the residual blocks."""

    def __init__(self, weights: UpsampleWeights) -> None:
        self.up = UpsampleLayer(weights.up, weights.rate)
        self.speaker = weights.speaker
        self.blocks = [BlockLayer(block) for block in weights.blocks]


class ConvStream:
    """A `ConvLayer` on one sequence."""

    def __init__(self, layer: ConvLayer) -> None:
        self._layer = layer
        self._kept = layer.edge

    def push(self, frames: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """Takes the next frames; gives those whose right neighbours are there."""
        layer = self._layer
        parts = [self._kept, frames, layer.edge] if is_last else [self._kept, frames]
        joined = torch.cat(parts)
        num_out = len(joined) - 2 * layer.padding
        if num_out <= 0:
            self._kept = joined
            return layer.nothing
        self._kept = joined[num_out:].clone()
        return layer.convolution.apply(joined)


class UpsampleStream:
    """An `UpsampleLayer` on one sequence; what a frame adds beyond its place is kept."""

    def __init__(self, layer: UpsampleLayer) -> None:
        self._layer = layer
        self._num_to_skip = layer.trim
        width = layer.rate * layer.num_out
        self._overlap = layer.matrix.new_zeros(layer.reach - 1, width)

    def push(self, frames: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """Takes T frames; gives T * rate, less what is trimmed at either end of the sequence."""
        layer, num_frames = self._layer, len(frames)
        summed = torch.cat([self._overlap, self._overlap.new_zeros(num_frames, self._width)])
        if num_frames:
            parts = F.linear(frames, layer.matrix).view(num_frames, layer.reach, -1)
            for place in range(layer.reach):
                summed[place : place + num_frames] += parts[:, place]
        self._overlap = summed[num_frames:].clone()
        outputs = summed.view(-1, layer.num_out)
        num_done = num_frames * layer.rate
        if is_last:
            num_done += layer.num_beyond - layer.trim
        skipped = min(self._num_to_skip, num_done)
        self._num_to_skip -= skipped
        done = outputs[skipped:num_done]
        return done if layer.bias is None else done + layer.bias

    @property
    def _width(self) -> int:
        return self._overlap.shape[1]


class StageStream:
    """One stage of a `BlockLayer` on one sequence."""

    def __init__(self, layers: list[ConvLayer]) -> None:
        self._convs = [ConvStream(layer) for layer in layers]
        self._waiting: torch.Tensor | None = None

    def push(self, frames: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """Takes the next frames; gives the sums that are complete."""
        waiting = frames if self._waiting is None else torch.cat([self._waiting, frames])
        changed = F.leaky_relu(frames, SLOPE)
        for conv in self._convs:
            changed = conv.push(changed, is_last=is_last)
        num_out = len(changed)
        self._waiting = waiting[num_out:].clone()
        return changed + waiting[:num_out]


class BlockStream:
    """A `BlockLayer` on one sequence, with a queue for outputs that wait for slower blocks."""

    def __init__(self, layer: BlockLayer) -> None:
        self._stages = [StageStream(convs) for convs in layer.stages]
        self._done: torch.Tensor | None = None

    def push(self, frames: torch.Tensor, *, is_last: bool) -> int:
        """Takes the next frames; returns how many outputs wait to be taken."""
        for stage in self._stages:
            frames = stage.push(frames, is_last=is_last)
        self._done = frames if self._done is None else torch.cat([self._done, frames])
        return len(self._done)

    def take(self, num_frames: int) -> torch.Tensor:
        """Returns the oldest `num_frames` waiting outputs."""
        assert self._done is not None, "push comes before take"
        taken = self._done[:num_frames]
        self._done = self._done[num_frames:].clone()
        return taken


class StackStream:
    """A `StackLayer` on one sequence."""

    def __init__(self, layer: StackLayer, speaker_embedding: torch.Tensor) -> None:
        self._up = UpsampleStream(layer.up)
        self._speaker = None
        if layer.speaker is not None:
            self._speaker = project_speaker(layer.speaker, speaker_embedding)
        self._blocks = [BlockStream(block) for block in layer.blocks]

    def push(self, frames: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """Takes the next frames; gives those that every block has finished."""
        frames = self._up.push(F.leaky_relu(frames, SLOPE), is_last=is_last)
        if self._speaker is not None:
            frames = frames + self._speaker
        num_ready = min([block.push(frames, is_last=is_last) for block in self._blocks])
        first, *others = [block.take(num_ready) for block in self._blocks]
        for other in others:
            first = first + other
        return first / len(self._blocks)


def project_speaker(weights: ConvWeights, speaker_embedding: torch.Tensor) -> torch.Tensor:
    """Returns what a speaker adds to every frame, [channels].

    Summed up plainly: the products of libraries round by where in memory the weights happen to lie.
    """
    speaker = speaker_embedding[0, :, 0].to(weights.weight.device, torch.float32)
    added = (weights.weight[:, :, 0].float() * speaker).sum(dim=1)
    if weights.bias is not None:
        added = added + weights.bias.float()
    return added.to(weights.weight.dtype)
