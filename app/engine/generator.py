"""The HiFi-GAN generator spelled out: its layers over whole sequences, side by side in a batch.

What streams is held to this one (`vocoder`), and windows of sequences run through it on a GPU
(`batch_vocoder`). Knows nothing of latents, rates or pieces.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from app.engine.vocoder_weights import BlockWeights, ConvWeights, UpsampleWeights, VocoderWeights

SLOPE = 0.1  # hifigan_generator.py, LRELU_SLOPE


def run_generator(
    weights: VocoderWeights, frames: torch.Tensor, speaker_embedding: torch.Tensor
) -> torch.Tensor:
    """Returns the samples of whole sequences, as stock computes them: float32 [B, S] in -1..1.

    Args:
        weights: the generator.
        frames: [B, D, T] of the weights' type, at the generator's own rate.
        speaker_embedding: [B, E, 1].
    """
    speaker = speaker_embedding.to(weights.first.weight)
    frames = _conv(frames, weights.first) + _conv(speaker, weights.speaker)
    for layer in weights.layers:
        frames = _upsample(F.leaky_relu(frames, SLOPE), layer, speaker)
    # slope 0.01 here, not 0.1: stock calls leaky_relu without one
    return _conv(F.leaky_relu(frames), weights.last).float().tanh()[:, 0]


def reach(weights: VocoderWeights) -> int:
    """Returns how many frames on either side of its own a sample depends on, at most.

    From the sample back to the frames: a transposed convolution's output comes from the inputs
    within its kernel, so r outputs to a side are no more than (r + kernel) / rate inputs.
    """
    num = weights.last.padding
    for layer in reversed(weights.layers):
        num += max(
            sum(conv.padding for stage in block.stages for conv in stage) for block in layer.blocks
        )
        num = math.ceil((num + layer.up.weight.shape[2]) / layer.rate)
    return num + weights.first.padding


def _conv(frames: torch.Tensor, conv: ConvWeights) -> torch.Tensor:
    return F.conv1d(frames, conv.weight, conv.bias, padding=conv.padding, dilation=conv.dilation)


def _upsample(frames: torch.Tensor, layer: UpsampleWeights, speaker: torch.Tensor) -> torch.Tensor:
    padding = (layer.up.weight.shape[2] - layer.rate) // 2
    frames = F.conv_transpose1d(
        frames, layer.up.weight, layer.up.bias, stride=layer.rate, padding=padding
    )
    if layer.speaker is not None:
        frames = frames + _conv(speaker, layer.speaker)
    first, *others = layer.blocks
    summed = _block(frames, first)
    for block in others:
        summed += _block(frames, block)
    return summed / len(layer.blocks)


def _block(frames: torch.Tensor, block: BlockWeights) -> torch.Tensor:
    for stage in block.stages:
        changed = frames
        for conv in stage:
            changed = _conv(F.leaky_relu(changed, SLOPE), conv)
        frames = frames + changed
    return frames
