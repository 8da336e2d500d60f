"""The GPT that writes audio tokens: one prefill for each row, then one step for all rows at once.

A row's numbers are equal to the bit alone and in any company. Three things hold that up, and tests
hold them: matrix products treat every row alike (`linear.py`), attention runs row by row over the
row's own length, and no elementwise operation is split between threads inside a row. Rows are
values their caller owns. Knows nothing of sampling, text or sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F

from app.engine.gpt_weights import GptWeights, LayerWeights
from app.engine.kv_cache import KvCache

_NORM_EPS = 1e-5  # of GPT-2 and of torch's LayerNorm alike
# ATen splits a gelu between threads above this many elements (Activation.cpp,
# GELU_MIN_ELEMENTS_FOR_MULTI_THREADING); the ends of the parts take another rounding, unless they
# are whole vectors, as a row is (4 * D is a multiple of 32 for every D that is one of 8).
_MAX_SERIAL_ELEMENTS = 0x4000


@dataclass(eq=False)
class DecodeRow:
    """Where one row stands: its cache, and how many audio tokens (start included) went in."""

    cache: KvCache
    num_audio: int


class StepOutput(NamedTuple):
    """What one position of each of n rows gave.

    `logits`: [n, audio tokens] for the token that follows; `latents`: [n, D] for the vocoder.
    """

    logits: torch.Tensor
    latents: torch.Tensor


class Decoder(Protocol):
    """Decodes rows: `GptDecoder`, `BatchDecoder`, or `ReferenceDecoder` in their place."""

    def prefill(
        self, token_ids: Sequence[int], gpt_latents: torch.Tensor
    ) -> tuple[Any, StepOutput]:
        """Starts a row."""

    def step(self, rows: Sequence[Any], tokens: Sequence[int]) -> StepOutput:
        """Moves rows on by one token each."""


class GptDecoder:
    """Decodes rows over one model's weights; holds no state but those."""

    def __init__(self, weights: GptWeights) -> None:
        self._weights = weights

    @torch.inference_mode()
    def prefill(
        self, token_ids: Sequence[int], gpt_latents: torch.Tensor
    ) -> tuple[DecodeRow, StepOutput]:
        """Starts a row: voice, text and the start token go in at once.

        Args:
            token_ids: text tokens without start and stop, at most `max_text_tokens`.
            gpt_latents: the voice, [1, P, D].

        Returns:
            The row, and the output after the start token, n = 1.
        """
        weights = self._weights
        hidden = embed_prefix(weights, token_ids, gpt_latents)
        num_positions = hidden.shape[0]
        row = DecodeRow(KvCache(weights.sizes, weights.dtype, weights.device), num_audio=1)
        row.cache.reserve(num_positions)
        for index, layer in enumerate(weights.layers):
            qkv = project_qkv(hidden, layer, weights.sizes.num_heads)
            mixed = row.cache.attend_first(index, qkv.permute(1, 2, 0, 3))
            hidden = finish_layer(hidden, mixed, layer)
        row.cache.advance(num_positions)
        return row, read_out(hidden[-1:], weights)

    @torch.inference_mode()
    def step(self, rows: Sequence[DecodeRow], tokens: Sequence[int]) -> StepOutput:
        """Puts one token into each of n rows, of any lengths, and returns what follows.

        Args:
            rows: the rows; each moves on by one position.
            tokens: the audio token drawn last in each row.
        """
        weights = self._weights
        hidden = embed_tokens(weights, [row.num_audio for row in rows], tokens)
        mixed = torch.empty_like(hidden)
        for row in rows:
            row.cache.reserve(1)
        for index, layer in enumerate(weights.layers):
            qkv = project_qkv(hidden, layer, weights.sizes.num_heads)
            for place, row in enumerate(rows):
                mixed[place] = row.cache.attend_next(index, qkv[place].unsqueeze(2))
            hidden = finish_layer(hidden, mixed, layer)
        for row in rows:
            row.cache.advance(1)
            row.num_audio += 1
        return read_out(hidden, weights)


def embed_prefix(
    weights: GptWeights, token_ids: Sequence[int], gpt_latents: torch.Tensor
) -> torch.Tensor:
    """Returns what stands before the first drawn token, [P + text + 3, D].

    The voice's latents without positions, then start, text and stop with text positions, then the
    audio start token at audio position 0 (coqui-tts, gpt.py `compute_embeddings`).
    """
    sizes = weights.sizes
    ids = torch.tensor(
        [sizes.start_text_token, *token_ids, sizes.stop_text_token], device=weights.device
    )
    text = weights.text_embedding[ids] + weights.text_positions[: len(ids)]
    start = weights.audio_embedding[sizes.start_audio_token] + weights.audio_positions[0]
    voice = gpt_latents[0].to(weights.device, weights.dtype)
    return torch.cat([voice, text, start[None]])


def embed_tokens(weights: GptWeights, places: Sequence[int], tokens: Sequence[int]) -> torch.Tensor:
    """Returns the tokens' embeddings, each at its own audio position, [n, D]."""
    ids = torch.tensor(tokens, device=weights.device)
    positions = torch.tensor(places, device=weights.device)
    return weights.audio_embedding[ids] + weights.audio_positions[positions]


def project_qkv(hidden: torch.Tensor, layer: LayerWeights, num_heads: int) -> torch.Tensor:
    """Returns queries, keys and values, [n, 3, heads, head_dim]."""
    qkv = layer.qkv.apply(_normalise(hidden, layer.attn_norm))
    return qkv.view(len(hidden), 3, num_heads, -1)


def finish_layer(hidden: torch.Tensor, mixed: torch.Tensor, layer: LayerWeights) -> torch.Tensor:
    """Adds the attention's output and the feed-forward part to the residual stream."""
    hidden = hidden + layer.out.apply(mixed)
    wide = layer.up.apply(_normalise(hidden, layer.mlp_norm))
    return hidden + layer.down.apply(_gelu(wide))


def read_out(hidden: torch.Tensor, weights: GptWeights) -> StepOutput:
    """Latents stand after both norms, as stock's second pass makes them; logits are read off."""
    latents = _normalise(_normalise(hidden, weights.last_norm), weights.latent_norm)
    return StepOutput(weights.head.apply(latents), latents)


def _normalise(hidden: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return F.layer_norm(hidden, hidden.shape[-1:], *norm, eps=_NORM_EPS)


def _gelu(wide: torch.Tensor) -> torch.Tensor:
    """GPT-2's tanh approximation, in parts small enough that no row is split between threads."""
    num_rows = max(1, _MAX_SERIAL_ELEMENTS // wide.shape[1])
    if wide.device.type != "cpu" or len(wide) <= num_rows:
        return F.gelu(wide, approximate="tanh")
    return torch.cat([F.gelu(part, approximate="tanh") for part in torch.split(wide, num_rows)])
