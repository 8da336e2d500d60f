"""Matrix products whose rows do not know each other: the decoder's promise rests on this.

The usual products round a row differently with the number of rows beside it: MKL takes other
kernels for one row than for more, and without AVX-512 for nearly every number of them (measured
with torch 2.7.1: `addmm` differs between 1 and 2 rows with AVX-512, between 2 and 3 with AVX2).
oneDNN's, over weights packed once, round every row alike for 1 to 32 rows on both, and are as fast
or faster, so they are taken where there are any. Knows nothing of what the weights mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch


class Linear(ABC):
    """x @ weight + bias for rows x, with the weights kept in whatever form suits the device."""

    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns [n, out] for [n, in]."""


class PlainLinear(Linear):
    """Weights as they are, [in, out]; a row alone gets another beside it, but on CUDA devices.

    There it would be one kernel more for each product, and bits differ with company anyway.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.device, self.dtype = weight.device, weight.dtype
        self._weight = weight
        self._bias = bias

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns [n, out]; equal to the bit from two rows on, where the CPU has AVX-512."""
        if len(rows) > 1 or self.device.type == "cuda":
            return torch.addmm(self._bias, rows, self._weight)
        return torch.addmm(self._bias, rows.expand(2, -1), self._weight)[:1]


class PackedLinear(Linear):
    """Weights in oneDNN's own blocked form, float32 on the CPU."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.device, self.dtype = weight.device, weight.dtype
        # torch has no public name for these two; it makes them for its own compiler (inductor)
        pack = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001
        self._multiply = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
        self._packed = pack(weight.t().contiguous(), None)
        self._bias = bias

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns [n, out]; each row's is the same to the bit in any company."""
        product: torch.Tensor = self._multiply(rows, self._packed, self._bias, "none", [], "")
        return product


def make_linear(weight: torch.Tensor, bias: torch.Tensor) -> Linear:
    """Returns the product that suits the weights' device and type.

    Args:
        weight: [in, out].
        bias: [out].
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and has_packed_products():
        return PackedLinear(weight, bias)
    return PlainLinear(weight, bias)


def has_packed_products() -> bool:
    """Says whether this torch was built with oneDNN and has its products over packed weights."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return all(hasattr(torch.ops.mkldnn, name) for name in names)
