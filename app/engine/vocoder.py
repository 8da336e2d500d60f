"""Latents to samples, piece by piece: each sample is computed once and equals the whole's.

Stock vocodes everything again at each streamed chunk; here every layer carries its own context,
so the work is linear in the length and the pieces join without a seam. A stream belongs to its
caller. Knows nothing of tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from app.engine.interpolate import InterpolateStream
from app.engine.vocoder_layers import ConvStream, LayerStream, project_speaker
from app.engine.vocoder_weights import VocoderSizes, VocoderWeights


class VocoderStream:
    """Turns one segment's latents into samples as they come.

    Args:
        weights: the generator, shared.
        speaker_embedding: [1, E, 1].
        speed: 1 for the model's own pace; 2 squeezes the latents to half their number before the
            vocoder, as stock does, so the pitch stays.
    """

    @torch.inference_mode()
    def __init__(
        self, weights: VocoderWeights, speaker_embedding: torch.Tensor, speed: float = 1.0
    ) -> None:
        self._weights = weights
        self._stretches = [InterpolateStream(scale) for scale in frame_scales(weights.sizes, speed)]
        self._first = ConvStream(weights.first)
        self._speaker = project_speaker(weights.speaker, speaker_embedding)
        self._layers = [LayerStream(layer, speaker_embedding) for layer in weights.layers]
        self._last = ConvStream(weights.last)

    @torch.inference_mode()
    def push(self, latents: torch.Tensor, *, is_last: bool = False) -> torch.Tensor:
        """Takes the next latents and returns the samples that are complete.

        Args:
            latents: [N, D], N may be 0.
            is_last: no more will come; gives the rest of the samples. Nothing may follow.

        Returns:
            float32 [S] in -1..1, on the weights' device.
        """
        frames = latents.to(self._weights.first.weight).t()[None]
        for stretch in self._stretches:
            frames = stretch.push(frames, is_last=is_last)
        frames = self._first.push(frames, is_last=is_last) + self._speaker
        for layer in self._layers:
            frames = layer.push(frames, is_last=is_last)
        # slope 0.01 here, not 0.1: stock calls leaky_relu without one
        samples = self._last.push(F.leaky_relu(frames), is_last=is_last)
        return samples.tanh().view(-1).float()

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
