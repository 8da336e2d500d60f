"""Keys and values of all rows for the compiled layers, each row in a place of its own.

A row keeps its place for as long as somebody holds it; nothing is ever moved. Knows neither weights
nor attention.
"""

from __future__ import annotations

import weakref

import torch

from app.engine.cache_pool import PooledRow
from app.engine.gpt_weights import GptSizes
from app.engine.native_library import CacheStruct


class NativeCache:
    """Keys and values, [layers, 2, places, heads, positions, head_dim].

    Room for the longest rows is laid out at once; memory that no row has written to yet costs
    nothing but addresses. It is given back when the last row goes.

    Args:
        sizes: of the model.
        max_rows: most rows at a time.
        longest: most positions of a row.
        dtype: what keys and values are kept in: float32 or bfloat16.
    """

    def __init__(self, sizes: GptSizes, max_rows: int, longest: int, dtype: torch.dtype) -> None:
        self._sizes = sizes
        self._longest = longest
        self._dtype = dtype
        self._rows: list[weakref.ref[PooledRow] | None] = [None] * max_rows
        self._values = torch.empty(0, dtype=dtype)
        #: what the compiled code is told; `kept` is an address only while there are rows
        self.struct = CacheStruct(
            num_places=max_rows, capacity=longest, is_half=dtype == torch.bfloat16
        )

    @property
    def used_bytes(self) -> int:
        """Size of the keys and values of the rows there are."""
        rows = (ref() for ref in self._rows if ref is not None)
        num_positions = sum(row.length for row in rows if row is not None)
        return self._sizes.cache_bytes(num_positions, self._dtype)

    def open_row(self, num_positions: int) -> PooledRow:
        """Returns a new row of `num_positions`, which are to be computed next."""
        if not any(self._rows):
            sizes = self._sizes
            heads = (sizes.num_heads, self._longest, sizes.head_dim)
            shape = (sizes.num_layers, 2, len(self._rows), *heads)
            self._values = torch.empty(shape, dtype=self._dtype)
            self.struct.kept = self._values.data_ptr()
        place = self._rows.index(None)
        row = PooledRow(place, num_positions, num_audio=1)
        self._rows[place] = weakref.ref(row, lambda _: self._leave(place))
        return row

    def _leave(self, place: int) -> None:
        self._rows[place] = None
        if not any(self._rows):
            self._values = torch.empty(0, dtype=self._dtype)
            self.struct.kept = None
