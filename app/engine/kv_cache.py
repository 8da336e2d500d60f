"""Keys and values of one row, for every layer.

A cache belongs to whoever decodes the row; it grows in blocks and is dropped whole when the row
leaves. Knows attention over one row; knows nothing of weights or of other rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from app.engine.gpt_weights import GptSizes

# A block of 128 positions is 31 MB at XTTS-v2's shape in float32; the copy at each growth is
# small against the 128 steps between two of them.
_BLOCK_POSITIONS = 128


class KvCache:
    """Keys and values of one row: [layers, 2, heads, positions, head_dim], allocated in blocks."""

    def __init__(self, sizes: GptSizes, dtype: torch.dtype, device: torch.device) -> None:
        self._sizes = sizes
        self._dtype = dtype
        self._device = device
        self._values = self._allocate(0)
        self._layers: list[torch.Tensor] = []
        self.length = 0

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        return self._values.numel() * self._values.element_size()

    def reserve(self, num_positions: int) -> None:
        """Makes room for `num_positions` more, keeping what is there."""
        needed = self.length + num_positions
        if needed <= self._values.shape[3]:
            return
        grown = self._allocate(-(-needed // _BLOCK_POSITIONS) * _BLOCK_POSITIONS)
        grown[:, :, :, : self.length] = self._values[:, :, :, : self.length]
        self._values = grown
        self._layers = list(grown)

    def attend_first(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Fills an empty cache's layer and attends causally within the positions given.

        Args:
            layer: index of the layer.
            qkv: [3, heads, S, head_dim], queries, keys and values. `reserve(S)` came before.

        Returns:
            What each position attended to, [S, heads * head_dim].
        """
        num_positions = qkv.shape[2]
        self._layers[layer][:, :, :num_positions] = qkv[1:]
        query, key, value = qkv.unsqueeze(1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed[0].transpose(0, 1).reshape(num_positions, -1)

    def attend_next(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Adds one position to a layer and attends from it to all positions so far.

        Args:
            layer: index of the layer.
            qkv: [3, heads, 1, head_dim] of the new position. `reserve(1)` came before.

        Returns:
            What it attended to, [heads * head_dim].
        """
        cached = self._layers[layer]
        cached[:, :, self.length : self.length + 1] = qkv[1:]
        key, value = cached[:, None, :, : self.length + 1]
        return F.scaled_dot_product_attention(qkv[:1], key, value).view(-1)

    def advance(self, num_positions: int) -> None:
        """Counts positions that every layer has been given."""
        self.length += num_positions

    def _allocate(self, num_positions: int) -> torch.Tensor:
        sizes = self._sizes
        shape = (sizes.num_layers, 2, sizes.num_heads, num_positions, sizes.head_dim)
        return torch.empty(shape, dtype=self._dtype, device=self._device)
