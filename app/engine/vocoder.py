"""Latents to samples, piece by piece: each sample is computed once and equals the whole's.

Stock vocodes everything again at each streamed chunk; here every layer carries its own context,
so the work is linear in the length and the pieces join without a seam. A stream belongs to its
caller. Knows nothing of tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from app.engine.generator import reach
from app.engine.interpolate import InterpolateStream
from app.engine.vocoder_layers import (
    ConvLayer,
    ConvStream,
    StackLayer,
    StackStream,
    project_speaker,
)
from app.engine.vocoder_weights import VocoderSizes, VocoderWeights


class Vocoder:
    """The generator made ready to stream: its weights packed once, shared by all streams."""

    @torch.inference_mode()
    def __init__(self, weights: VocoderWeights) -> None:
        self.weights = weights
        self.first = ConvLayer(weights.first)
        self.stacks = [StackLayer(layer) for layer in weights.layers]
        self.last = ConvLayer(weights.last)

    def stream(self, speaker_embedding: torch.Tensor, speed: float = 1.0) -> VocoderStream:
        """Begins one segment; see `VocoderStream`."""
        return VocoderStream(self, speaker_embedding, speed)


class VocoderStream:
    """Turns one segment's latents into samples as they come.

    Args:
        vocoder: shared.
        speaker_embedding: [1, E, 1].
        speed: 1 for the model's own pace; 2 squeezes the latents to half their number before the
            vocoder, as stock does, so the pitch stays.
    """

    @torch.inference_mode()
    def __init__(
        self, vocoder: Vocoder, speaker_embedding: torch.Tensor, speed: float = 1.0
    ) -> None:
        self._weights = weights = vocoder.weights
        self._stretches = [InterpolateStream(scale) for scale in frame_scales(weights.sizes, speed)]
        self._first = ConvStream(vocoder.first)
        self._speaker = project_speaker(weights.speaker, speaker_embedding)
        self._stacks = [StackStream(layer, speaker_embedding) for layer in vocoder.stacks]
        self._last = ConvStream(vocoder.last)

    @torch.inference_mode()
    def push(self, latents: torch.Tensor, *, is_last: bool = False) -> torch.Tensor:
        """Takes the next latents and returns the samples that are complete.

        Args:
            latents: [N, D], N may be 0.
            is_last: no more will come; gives the rest of the samples. Nothing may follow.

        Returns:
            float32 [S] in -1..1, on the weights' device.
        """
        stretched = latents.to(self._weights.first.weight).t()[None]
        for stretch in self._stretches:
            stretched = stretch.push(stretched, is_last=is_last)
        frames = stretched[0].t().contiguous()
        frames = self._first.push(frames, is_last=is_last) + self._speaker
        for stack in self._stacks:
            frames = stack.push(frames, is_last=is_last)
        # slope 0.01 here, not 0.1: stock calls leaky_relu without one
        samples = self._last.push(F.leaky_relu(frames), is_last=is_last)
        return samples.float().tanh().view(-1)

    def finish(self) -> torch.Tensor:
        """Returns the samples that waited for latents which will not come: float32 [S]."""
        latent_dim = self._weights.sizes.latent_dim
        return self.push(self._weights.first.weight.new_empty(0, latent_dim), is_last=True)


def frame_scales(sizes: VocoderSizes, speed: float) -> list[float]:
    """Returns the factors latents are stretched by before the generator, in stock's order.

    First the pace, then from codes to frames (1024 / 256), then to the output's sample rate
    (24000 / 22050); coqui-tts 0.28, `Xtts.inference` and `HifiDecoder.forward`.
    """
    scales = [1 / speed] if speed != 1 else []
    scales.append(sizes.code_stride / sizes.output_hop)
    if sizes.output_sample_rate != sizes.input_sample_rate:
        scales.append(sizes.output_sample_rate / sizes.input_sample_rate)
    return scales


def num_latents_for(weights: VocoderWeights, seconds: float, speed: float = 1.0) -> int:
    """Returns how many latents there must be for so many seconds of samples to be complete.

    The first samples wait for all the frames that the layers see after them, and each stretch for
    the half of its last frame that lies beyond the middle.
    """
    sizes = weights.sizes
    frames = reach(weights) + seconds * sizes.output_sample_rate / sizes.output_hop
    scale, waiting = 1.0, 0.0
    for each in frame_scales(sizes, speed):
        waiting += 0.5 / scale
        scale *= each
    return math.ceil(frames / scale + waiting)
