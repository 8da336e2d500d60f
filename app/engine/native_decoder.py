"""The decoder whose layers are compiled: one call moves all rows through all of them.

Does what `BatchDecoder` does, several times as fast for few rows. Knows nothing of sampling, text
or sound.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from app.engine.batch_decoder import NUM_VOICE, longest_row
from app.engine.cache_pool import PooledRow
from app.engine.decoder import StepOutput, embed_prefix, embed_tokens, read_out
from app.engine.gpt_weights import GptWeights, LayerWeights
from app.engine.native_cache import NativeCache
from app.engine.native_library import LayerStruct, ModelStruct, Scratch, load_native
from app.engine.native_linear import NativeLinear

_LANES = 16  # numbers of a vector
_WIDEST_HEAD = 8 * _LANES


class NativeDecoder:
    """Decodes rows over one model's weights; their caches live in its pool.

    Args:
        weights: the model, for which `fits` holds.
        cache_dtype: what keys and values are kept in: float32 or bfloat16.
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
        library = load_native().library
        assert library is not None, "ask `fits` first"
        self._library = library
        self._weights = weights
        sizes = weights.sizes
        self._cache = NativeCache(sizes, max_rows, longest_row(sizes, num_voice), cache_dtype)
        layers = (LayerStruct * sizes.num_layers)(*map(_describe, weights.layers))
        self._model = ModelStruct(layers, sizes.num_layers, sizes.model_dim, sizes.num_heads)

    @staticmethod
    def fits(weights: GptWeights, cache_dtype: torch.dtype) -> bool:
        """Says whether all of a model's layers can be run by the compiled code."""
        head_dim = weights.sizes.head_dim
        matrices = (m for each in weights.layers for m in (each.qkv, each.out, each.up, each.down))
        return (
            all(isinstance(matrix, NativeLinear) for matrix in matrices)
            and head_dim % _LANES == 0
            and head_dim <= _WIDEST_HEAD
            and cache_dtype in (torch.float32, torch.bfloat16)
        )

    @property
    def cache_bytes(self) -> int:
        """Memory that the rows' keys and values hold."""
        return self._cache.used_bytes

    @torch.inference_mode()
    def prefill(
        self, token_ids: Sequence[int], gpt_latents: torch.Tensor
    ) -> tuple[PooledRow, StepOutput]:
        """Starts a row; see `GptDecoder.prefill`."""
        hidden = embed_prefix(self._weights, token_ids, gpt_latents)
        row = self._cache.open_row(len(hidden))
        self._run(hidden, [row.place] * len(hidden), range(len(hidden)))
        return row, read_out(hidden[-1:], self._weights)

    @torch.inference_mode()
    def step(self, rows: Sequence[PooledRow], tokens: Sequence[int]) -> StepOutput:
        """Puts one token into each of n rows; see `GptDecoder.step`."""
        hidden = embed_tokens(self._weights, [row.num_audio for row in rows], tokens)
        self._run(hidden, [row.place for row in rows], [row.length for row in rows])
        for row in rows:
            row.length += 1
            row.num_audio += 1
        return read_out(hidden, self._weights)

    def _run(self, hidden: torch.Tensor, places: Sequence[int], positions: Sequence[int]) -> None:
        """Moves [n, D] through the layers, in place, each at its position of its place."""
        num_rows, dim = hidden.shape
        assert hidden.is_contiguous(), "made just now"
        scratch = Scratch(num_rows, 4 * dim, 4 * dim, self._model.num_layers)
        indices = torch.tensor([places, positions], dtype=torch.int32)
        batch = scratch.struct
        batch.places, batch.positions = indices[0].data_ptr(), indices[1].data_ptr()
        batch.hidden = hidden.data_ptr()
        self._library.move_through_layers(
            ctypes.byref(self._model),
            ctypes.byref(self._cache.struct),
            ctypes.byref(batch),
            self._library.run_parallel,
        )


def _describe(layer: LayerWeights) -> LayerStruct:
    """Returns what the compiled code is told of a layer, whose tensors the weights hold."""
    matrices = {name: getattr(layer, name).struct for name in ("qkv", "out", "up", "down")}
    norms = {
        name: (ctypes.c_void_p * 2)(*(part.data_ptr() for part in getattr(layer, name)))
        for name in ("attn_norm", "mlp_norm")
    }
    return LayerStruct(**norms, **matrices)
