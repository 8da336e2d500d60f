"""The decoder for quantised weights: one pass over them for all rows, attention for all at once.

Does what `GptDecoder` does, with the caches of all rows in one pool. Knows nothing of sampling,
text or sound.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from app.engine.cache_pool import CachePool, PooledRow
from app.engine.decoder import (
    StepOutput,
    embed_prefix,
    embed_tokens,
    finish_layer,
    project_qkv,
    read_out,
)
from app.engine.gpt_weights import NUM_SPECIAL, GptSizes, GptWeights

NUM_VOICE = 32  # latents of the perceiver (coqui-tts, gpt.py, PerceiverResampler num_latents)


class BatchDecoder:
    """Decodes rows over one model's weights; their caches live in its pool.

    Args:
        weights: the model.
        cache_dtype: what keys and values are kept in.
        max_rows: most rows at a time.
        num_voice: most positions that a voice takes (32 for XTTS-v2).
    """

    def __init__(
        self,
        weights: GptWeights,
        cache_dtype: torch.dtype,
        max_rows: int,
        num_voice: int = NUM_VOICE,
    ) -> None:
        self._weights = weights
        longest = longest_row(weights.sizes, num_voice)
        self._pool = CachePool(weights.sizes, max_rows, longest, cache_dtype, weights.device)

    @property
    def cache_bytes(self) -> int:
        """Memory that the rows' keys and values hold."""
        return self._pool.used_bytes

    @torch.inference_mode()
    def prefill(
        self, token_ids: Sequence[int], gpt_latents: torch.Tensor
    ) -> tuple[PooledRow, StepOutput]:
        """Starts a row; see `GptDecoder.prefill`."""
        weights = self._weights
        hidden = embed_prefix(weights, token_ids, gpt_latents)
        row = self._pool.open_row(len(hidden))
        for index, layer in enumerate(weights.layers):
            qkv = project_qkv(hidden, layer, weights.sizes.num_heads)
            hidden = finish_layer(hidden, self._pool.fill(row, index, qkv), layer)
        return row, read_out(hidden[-1:], weights)

    @torch.inference_mode()
    def step(self, rows: Sequence[PooledRow], tokens: Sequence[int]) -> StepOutput:
        """Puts one token into each of n rows; see `GptDecoder.step`."""
        weights = self._weights
        order = self._pool.begin_step(rows)
        places = [rows[index].num_audio for index in order]
        hidden = embed_tokens(weights, places, [tokens[index] for index in order])
        for index, layer in enumerate(weights.layers):
            qkv = project_qkv(hidden, layer, weights.sizes.num_heads)
            hidden = finish_layer(hidden, self._pool.attend(index, qkv), layer)
        for row in rows:
            row.num_audio += 1
        if order != sorted(order):
            hidden = hidden[torch.tensor(order, device=hidden.device).argsort()]
        return read_out(hidden, weights)


def longest_row(sizes: GptSizes, num_voice: int = NUM_VOICE) -> int:
    """Returns how many positions a row of a model can have at most."""
    return num_voice + sizes.max_text_tokens + NUM_SPECIAL + sizes.max_audio_tokens
