"""Keys and values of all rows on a device whose memory counts: room grows with the rows there are.

A step runs over the first places here, so attention reads a slice and copies nothing. A place that
fell free goes to the next row; rows move only where a step over fewer places comes of it. Knows
neither weights nor attention.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch

from app.engine.cache_pool import PooledRow
from app.engine.gpt_weights import GptSizes


class GrowingCache:
    """Keys and values, for each layer [2, places, heads, positions, head_dim].

    Places double up to `max_rows`, positions step through `spans`; what was grown is kept, for
    recorded steps hold its addresses. Growth goes layer by layer, so that no more than one layer
    is there twice: with all rows at their longest it is what `app.models.footprint` counts.

    All numbers of a row's place are finite unless its own are not, because masked positions are
    still multiplied with: new room is zeroed, and who fills a new row writes zeros behind it.

    Args:
        sizes: of the model.
        max_rows: most rows at a time.
        spans: numbers of positions to have room for, rising; the last holds the longest row and
            one position more, which is where a row that pauses at its end is written to.
        dtype: what keys and values are kept in.
        device: where they are.
    """

    def __init__(
        self,
        sizes: GptSizes,
        max_rows: int,
        spans: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._sizes = sizes
        self._max_rows = max_rows
        self._spans = tuple(spans)
        self._rows: list[weakref.ref[PooledRow]] = []  # by place
        #: [2, places, heads, positions, head_dim] of each layer
        self.layers = [
            torch.zeros(2, 0, sizes.num_heads, 0, sizes.head_dim, dtype=dtype, device=device)
            for _ in range(sizes.num_layers)
        ]
        #: how often it grew: addresses taken before are no longer good
        self.generation = 0

    @property
    def used_bytes(self) -> int:
        """Memory held."""
        return sum(layer.numel() * layer.element_size() for layer in self.layers)

    def open_row(self, num_positions: int, num_padded: int = 0) -> PooledRow:
        """Returns a new row, whose place has to be filled before the next step, all of it.

        Args:
            num_positions: how long the row is.
            num_padded: how many positions will be written to, where that is more.
        """
        free = [place for place, ref in enumerate(self._rows) if ref() is None]
        place = free[0] if free else len(self._rows)
        row = PooledRow(place=place, length=num_positions, num_audio=1)
        self._reserve(place + 1, max(num_positions + 1, num_padded))
        self._rows[place : place + 1] = [weakref.ref(row)]
        return row

    def begin_step(self) -> tuple[list[int], int]:
        """Makes room for one more position in each row there is.

        Returns:
            The length of each place that the step runs over, 0 where it is free; and the span, the
            positions to attend over. Both are of few different sizes.
        """
        self._close_up()
        rows = [ref() for ref in self._rows]
        lengths = [0 if row is None else row.length for row in rows]
        self._reserve(len(lengths), max(lengths) + 1)
        padding = [0] * (self._num_places(len(lengths)) - len(lengths))
        return lengths + padding, self._span(max(lengths) + 1)

    def _num_places(self, num_rows: int) -> int:
        """Returns the next power of two, or the most rows where that is beyond them."""
        return max(num_rows, min(1 << (num_rows - 1).bit_length(), self._max_rows))

    def _span(self, num_positions: int) -> int:
        return next(span for span in self._spans if span >= num_positions)

    def _reserve(self, num_rows: int, num_positions: int) -> None:
        _, places, _, positions, _ = self.layers[0].shape
        wanted = max(places, self._num_places(num_rows)), max(positions, self._span(num_positions))
        if wanted == (places, positions):
            return
        self.generation += 1
        for index, old in enumerate(self.layers):
            shape = (2, wanted[0], self._sizes.num_heads, wanted[1], self._sizes.head_dim)
            grown = old.new_zeros(shape)
            grown[:, :places, :, :positions] = old
            self.layers[index] = grown
            del old  # or two layers would be there twice
        if grown.device.type == "cuda":
            torch.cuda.empty_cache()  # the smaller blocks are of no use to the larger layers

    def _close_up(self) -> None:
        """Moves the last rows into free places where the step gets smaller by it.

        Each move is a copy for each layer.
        """
        held = [row for ref in self._rows if (row := ref()) is not None]
        end = max(row.place for row in held) + 1
        if self._num_places(len(held)) < self._num_places(end):
            free = sorted(set(range(len(held))) - {row.place for row in held})
            for row in held:
                if row.place >= len(held):
                    place = free.pop()
                    for layer in self.layers:
                        layer[:, place] = layer[:, row.place]
                    self._rows[place] = weakref.ref(row)
                    row.place = place
            end = len(held)
        del self._rows[end:]
