"""The slow, obvious path: everything over the whole sequence, with nothing kept between steps.

The fast path is held to this one by tests, and `Scheduler(fast=False)` runs it instead. Written
for reading: every step runs the GPT over all positions again, attention is spelled out, and the
vocoder runs once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from app.engine.decoder import StepOutput, embed_prefix
from app.engine.generator import run_generator
from app.engine.gpt_weights import GptWeights, LayerWeights
from app.engine.vocoder import frame_scales
from app.engine.vocoder_weights import VocoderWeights


@dataclass(eq=False)
class ReferenceRow:
    """One row: all that went in, [S, D], and how many audio tokens of it (start included)."""

    embedded: torch.Tensor
    num_audio: int


class ReferenceDecoder:
    """Does what `GptDecoder` does, row by row and from the beginning each time."""

    def __init__(self, weights: GptWeights) -> None:
        self._weights = weights

    @torch.inference_mode()
    def prefill(
        self, token_ids: Sequence[int], gpt_latents: torch.Tensor
    ) -> tuple[ReferenceRow, StepOutput]:
        """Starts a row; see `GptDecoder.prefill`."""
        row = ReferenceRow(embed_prefix(self._weights, token_ids, gpt_latents), num_audio=1)
        return row, _run_gpt(self._weights, row.embedded)

    @torch.inference_mode()
    def step(self, rows: Sequence[ReferenceRow], tokens: Sequence[int]) -> StepOutput:
        """Puts one token into each row; see `GptDecoder.step`."""
        outputs = [self._step_row(row, token) for row, token in zip(rows, tokens, strict=True)]
        return StepOutput(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))

    def _step_row(self, row: ReferenceRow, token: int) -> StepOutput:
        weights = self._weights
        new = weights.audio_embedding[token] + weights.audio_positions[row.num_audio]
        row.embedded = torch.cat([row.embedded, new[None]])
        row.num_audio += 1
        return _run_gpt(weights, row.embedded)


class ReferenceVocoder:
    """Does what `VocoderStream` does, at the end and over everything."""

    def __init__(
        self, weights: VocoderWeights, speaker_embedding: torch.Tensor, speed: float = 1.0
    ) -> None:
        self._weights = weights
        self._speaker_embedding = speaker_embedding
        self._speed = speed
        self._latents: list[torch.Tensor] = []

    def push(self, latents: torch.Tensor, *, is_last: bool = False) -> torch.Tensor:
        """Keeps the latents [N, D]; gives all samples, float32 [S], where they are the last."""
        self._latents.append(latents)
        if not is_last:
            return latents.new_empty(0, dtype=torch.float32)
        joined = torch.cat(self._latents)
        return vocode_whole(self._weights, joined, self._speaker_embedding, self._speed)


@torch.inference_mode()
def vocode_whole(
    weights: VocoderWeights,
    latents: torch.Tensor,
    speaker_embedding: torch.Tensor,
    speed: float = 1.0,
) -> torch.Tensor:
    """Returns the samples of all latents in one go, float32 [S], as stock computes them.

    Args:
        weights: the generator.
        latents: [N, D], enough for at least one sample.
        speaker_embedding: [1, E, 1].
        speed: 1 for the model's own pace.
    """
    frames = latents.to(weights.first.weight).t()[None]
    for scale in frame_scales(weights.sizes, speed):
        frames = F.interpolate(frames, scale_factor=[scale], mode="linear")
    return run_generator(weights, frames, speaker_embedding)[0]


def _run_gpt(weights: GptWeights, embedded: torch.Tensor) -> StepOutput:
    """Returns the last position's output, from [S, D]."""
    hidden = embedded
    for layer in weights.layers:
        hidden = hidden + _attend(_norm(hidden, layer.attn_norm), layer, weights.sizes.num_heads)
        wide = F.gelu(layer.up.apply(_norm(hidden, layer.mlp_norm)), approximate="tanh")
        hidden = hidden + layer.down.apply(wide)
    latents = _norm(_norm(hidden, weights.last_norm), weights.latent_norm)[-1:]
    return StepOutput(weights.head.apply(latents), latents)


def _attend(normed: torch.Tensor, layer: LayerWeights, num_heads: int) -> torch.Tensor:
    num_positions, dim = normed.shape
    projected = layer.qkv.apply(normed).view(num_positions, 3, num_heads, -1)
    query, key, value = projected.permute(1, 2, 0, 3)
    scores = query @ key.transpose(1, 2) / math.sqrt(dim // num_heads)
    future = torch.ones(num_positions, num_positions, dtype=torch.bool, device=normed.device)
    scores = scores.masked_fill(future.triu(1), -torch.inf)
    mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(num_positions, dim)
    return layer.out.apply(mixed)


def _norm(hidden: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:], *norm)
