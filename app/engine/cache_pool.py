"""Keys and values of all rows of a batch side by side, so that one product serves them all.

A row keeps a place here for as long as somebody holds it; places that fell free are closed up at
the next step. Knows attention; knows nothing of weights, tokens or jobs.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from app.engine.gpt_weights import GptSizes

# Lengths are rounded up to this: a row's sums then run over whole vectors whatever is beside it.
_BLOCK_POSITIONS = 64


@dataclass(eq=False)
class PooledRow:
    """Where one row stands: its place in the pool, how long it is, and how much of it is audio.

    `num_audio` counts the audio tokens that went in, start included. Held by whoever decodes it;
    when nobody does, its place is free.
    """

    place: int
    length: int
    num_audio: int


class CachePool:
    """Keys and values, [layers, 2, places, heads, positions, head_dim].

    Room for the longest rows is laid out at once, so nothing is ever copied to grow; memory that
    no row has written to yet costs nothing but addresses. It is given back when the last row goes.

    Args:
        sizes: of the model.
        max_rows: most rows at a time.
        longest: most positions of a row.
        dtype: what keys and values are kept and multiplied in.
        device: where they are.
    """

    def __init__(
        self, sizes: GptSizes, max_rows: int, longest: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._sizes = sizes
        self._max_rows = max_rows
        self._capacity = _round_up(longest)
        self._dtype = dtype
        self._device = device
        self._rows: list[weakref.ref[PooledRow]] = []
        self._values = self._allocate(0)
        #: how many positions of each place hold numbers, of whatever row
        self._written = [0] * max_rows
        self._num = self._span = 0
        # of the step under way: where new positions go, and what each layer attends to
        self._where = (torch.empty(0), torch.empty(0))
        self._ends: Sequence[torch.Tensor] = ()
        self._seen: Sequence[Sequence[torch.Tensor]] = ()
        self._mask = torch.empty(0)

    @property
    def used_bytes(self) -> int:
        """Memory written to so far."""
        return self._sizes.cache_bytes(sum(self._written), self._dtype)

    def open_row(self, num_positions: int) -> PooledRow:
        """Returns a new row of `num_positions`, each layer of which `fill` has to be given."""
        self._close_gaps()
        if not self._rows:
            self._values = self._allocate(self._max_rows)
            self._num = self._span = 0
        row = PooledRow(place=len(self._rows), length=num_positions, num_audio=1)
        self._rows.append(weakref.ref(row))
        return row

    def fill(self, row: PooledRow, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Fills a new row's layer and attends causally within the positions given.

        Args:
            row: from `open_row`.
            layer: index of the layer.
            qkv: [S, 3, heads, head_dim], queries, keys and values.

        Returns:
            What each position attended to, [S, heads * head_dim] float32.
        """
        query, key, value = qkv.permute(1, 2, 0, 3).unsqueeze(1)
        cached = self._values[layer, :, row.place]
        cached[0, :, : len(qkv)] = key[0]
        cached[1, :, : len(qkv)] = value[0]
        self._written[row.place] = max(self._written[row.place], len(qkv))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed[0].transpose(0, 1).reshape(len(qkv), -1)

    def begin_step(self, rows: Sequence[PooledRow]) -> list[int]:
        """Makes room for one more position in each row.

        Returns:
            The order in which `attend` takes them: the index in `rows` of each in turn.
        """
        self._close_gaps()
        order = sorted(range(len(rows)), key=lambda index: rows[index].place)
        rows = [rows[index] for index in order]
        self._arrange(rows)
        self._look_at(len(rows), _round_up(max(row.length for row in rows) + 1))
        for place in range(self._num):
            self._blank(place, self._span)
        lengths = torch.tensor([row.length for row in rows], device=self._device)
        self._where = (torch.arange(len(rows), device=self._device), lengths)
        if self._num == 1:
            self._ends = self._values[:, :, 0, :, rows[0].length].unbind(0)
        future = torch.arange(self._span, device=self._device) > lengths[:, None]
        mask = torch.zeros(future.shape, dtype=self._dtype, device=self._device)
        self._mask = mask.masked_fill_(future, -torch.inf)[:, None, None]
        for row in rows:
            row.length += 1
        return order

    def attend(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Adds one position to each row's layer and attends from it to all of its row so far.

        Args:
            layer: index of the layer.
            qkv: [n, 3, heads, head_dim] of the new positions.

        Returns:
            What each attended to, [n, heads * head_dim] float32.
        """
        num, heads = self._num, self._sizes.num_heads
        self._put(layer, qkv)
        keys, values = self._seen[layer]
        query = qkv[:, 0].reshape(num * heads, -1, 1).to(self._dtype)
        # keys times query, not query times keys, which oneDNN would first lay out anew in bfloat16
        scores = torch.bmm(keys, query).view(num, heads, 1, -1)
        scores = torch.add(self._mask, scores, alpha=self._sizes.head_dim**-0.5)
        shares = scores.softmax(-1).view(num * heads, 1, -1)
        return torch.bmm(shares, values).view(num, -1).float()

    def _put(self, layer: int, qkv: torch.Tensor) -> None:
        """Writes the new positions' keys and values, [n, 3, heads, head_dim] with the queries."""
        if self._num == 1:  # three times as fast
            self._ends[layer].copy_(qkv[0, 1:])
            return
        places, lengths = self._where
        self._values[layer][:, places, :, lengths] = qkv[:, 1:].to(self._dtype)

    def _look_at(self, num_rows: int, span: int) -> None:
        """Makes each layer's keys and values ready to be attended to.

        They stay so for many steps; a view costs as much as some of the arithmetic.
        """
        if (num_rows, span) == (self._num, self._span):
            return
        self._num, self._span = num_rows, span
        seen = self._values[:, :, :num_rows, :, :span].flatten(2, 3)
        self._seen = [layer.unbind(0) for layer in seen.unbind(0)]

    def _blank(self, place: int, span: int) -> None:
        """Writes zeros up to `span`: what lies beyond a row's end counts 0 times, if a number."""
        if self._written[place] < span:
            self._values[:, :, place, :, self._written[place] : span] = 0
            self._written[place] = span

    def _close_gaps(self) -> None:
        """Moves the last rows into places that fell free; with no row left, lets go of all."""
        held = [row for ref in self._rows if (row := ref()) is not None]
        if len(held) == len(self._rows) and held:
            return
        free = sorted(set(range(len(held))) - {row.place for row in held})
        for row in held:
            if row.place >= len(held):
                self._move(row, free.pop())
        self._rows = [weakref.ref(row) for row in sorted(held, key=lambda row: row.place)]
        if not held:
            self._values = self._allocate(0)
            self._seen, self._ends = (), ()  # they would keep the memory
            self._num = self._span = 0
            self._written = [0] * self._max_rows

    def _move(self, row: PooledRow, place: int) -> None:
        cached = self._values[..., : row.length, :]
        cached[:, :, place] = cached[:, :, row.place]
        self._written[place] = max(self._written[place], row.length)
        row.place = place

    def _arrange(self, rows: Sequence[PooledRow]) -> None:
        """Gives `rows` the first places, in their order; so they are unless some are left out."""
        for place, row in enumerate(rows):
            other = self._rows[place]()
            assert other is not None, "gaps are closed before"
            if other is not row:
                longer = max(row.length, other.length)
                for index in (place, row.place):
                    self._blank(index, longer)
                swapped = self._values[..., :longer, :]
                swapped[:, :, [place, row.place]] = swapped[:, :, [row.place, place]]
                self._rows[place], self._rows[row.place] = self._rows[row.place], self._rows[place]
                other.place, row.place = row.place, place

    def _allocate(self, num_rows: int) -> torch.Tensor:
        sizes = self._sizes
        shape = (sizes.num_layers, 2, num_rows, sizes.num_heads, self._capacity, sizes.head_dim)
        return torch.empty(shape, dtype=self._dtype, device=self._device)


def _round_up(num_positions: int) -> int:
    return -(-num_positions // _BLOCK_POSITIONS) * _BLOCK_POSITIONS
