"""Matrix products in 8-bit whole numbers: a quarter of the memory to read, and exact sums.

Weights have one scale for each output, activations one for each row, made as the row comes by. The
sums themselves are of whole numbers in 32 bits, so a row gives the same bits in any company and
with any number of threads. oneDNN's kernels do the work on processors with VNNI instructions;
elsewhere they saturate, which `has_exact_int8` finds out by trying. Knows nothing of what the
weights mean.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from app.engine.linear import Linear

_LARGEST = 127
_MIDDLE = 128


class Int8Weight(NamedTuple):
    """A matrix in whole numbers: `values` [out, in] of -127 to 127, times `scales` [out]."""

    values: torch.Tensor
    scales: torch.Tensor

    @classmethod
    def quantise(cls, weight: torch.Tensor) -> Int8Weight:
        """Rounds [in, out] of any float type; each output's largest weight becomes 127."""
        rows = weight.t().float()
        scales = rows.abs().amax(dim=1) / _LARGEST
        # an output whose weights are all 0 has no scale; any will do
        divisor = torch.where(scales > 0, scales, 1)
        values = (rows / divisor[:, None]).round_().to(torch.int8)
        return cls(values.contiguous(), scales)


class Int8Linear(Linear):
    """rows @ weight + bias, in 8-bit whole numbers.

    Args:
        weight: what is multiplied with.
        bias: [out] float32.
        lowest: what no activation lies below, where that is known: the 255 steps then span from
            there to a row's largest value. None: they span both signs alike.
    """

    def __init__(self, weight: Int8Weight, bias: torch.Tensor, lowest: float | None = None) -> None:
        self.device, self.dtype = bias.device, bias.dtype
        # torch has no public name for these two; it makes them for its own compiler (inductor)
        self._multiply = torch.ops.onednn.qlinear_pointwise.default
        self._packed = torch.ops.onednn.qlinear_prepack(weight.values, None)
        num_out, num_in = weight.values.shape
        self._middle, self._num_steps = steps_of(lowest)
        # a row's largest number is so many steps: divided by here, once for all rows
        self._scales = weight.scales / self._num_steps
        self._zeros = torch.zeros(num_out, dtype=torch.int64)
        self._origin = _origin(num_in, self._middle + 0.5)
        self._shift: torch.Tensor | None = None
        self._bias = bias
        if lowest is not None:
            self._shift = torch.tensor(-lowest)
            # what the shift adds to every row: known beforehand, so it goes into the bias
            sums = weight.values.sum(dim=1, dtype=torch.int64).double() * weight.scales.double()
            self._bias = (bias.double() + lowest * sums).float()

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns [n, out] float32 for [n, in]; each row's is the same in any company."""
        if self._shift is None:
            largest = rows.abs().amax(dim=1, keepdim=True)  # a norm would wake threads for it
        else:
            rows = rows + self._shift
            largest = rows.amax(dim=1, keepdim=True)
        # the added half makes the cast, which cuts off, round; a row of zeros gets steps worth 0
        steps = torch.addcdiv(self._origin, rows, largest, value=self._num_steps)
        product = self._multiply(
            *(steps.to(torch.uint8), 1.0, self._middle, self._packed, self._scales, self._zeros),
            *(None, 1.0, 0, torch.float32, "none", [], ""),
        )
        return torch.addcmul(self._bias, product, largest)


def steps_of(lowest: float | None) -> tuple[int, int]:
    """Returns which step means 0, and how many a row's largest number is, of 256.

    Args:
        lowest: what no activation lies below; None: they span both signs alike.
    """
    # kernels take activations from 0 to 255, so a row's zero is put in the middle
    return (_MIDDLE, _LARGEST) if lowest is None else (0, 2 * _LARGEST + 1)


@functools.cache
def _origin(num_in: int, value: float) -> torch.Tensor:
    """Returns one value for each input, [in]; torch's kernel is slower where it has one for all.

    All layers share it, so it stays in the processor's cache.
    """
    return torch.full((num_in,), value)


@functools.cache
def has_exact_int8() -> bool:
    """Says whether the processor multiplies whole numbers exactly, by doing it once.

    Without VNNI, oneDNN adds pairs of products in 16 bits, where the largest do not fit.
    """
    try:
        values = torch.full((64, 256), _LARGEST, dtype=torch.int8)
        weight = Int8Weight(values, torch.full((64,), 255.0))
        product = Int8Linear(weight, torch.zeros(64), lowest=0.0).apply(torch.ones(3, 256))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False  # a torch without oneDNN, or a oneDNN without these kernels
    return bool((product == 255 * _LARGEST * 256).all())
