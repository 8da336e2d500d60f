"""Products in 8-bit whole numbers by compiled code of our own; what `Int8Linear` does by oneDNN's.

For one row it is bound by reading the weights, and oneDNN reads them at half the speed. Sums are
exact and rounding is each row's own, so a row gives the same bits in any company and with any
number of threads. Knows nothing of what the weights mean.
"""

from __future__ import annotations

import ctypes

import torch

from app.engine.int8_linear import Int8Linear, Int8Weight, steps_of
from app.engine.linear import Linear
from app.engine.native_library import MatrixStruct, NativeLibrary, Scratch, load_native

_TILE, _TOGETHER = 16, 4  # outputs of a vector, and inputs that one instruction adds up
_PAIR = 2 * _TILE


class NativeLinear(Linear):
    """rows @ weight + bias; see `Int8Linear`.

    Args:
        weight: what is multiplied with; `fits` says which sizes can be.
        bias: [out] float32.
        lowest: what no activation lies below, where that is known.
        library: from `load_native`.
    """

    def __init__(
        self, weight: Int8Weight, bias: torch.Tensor, lowest: float | None, library: NativeLibrary
    ) -> None:
        self.device, self.dtype = bias.device, bias.dtype
        self._library = library
        num_out, num_in = weight.values.shape
        middle, num_steps = steps_of(lowest)
        sums = weight.values.sum(dim=1, dtype=torch.int64)
        if lowest is not None:
            # what the shift adds to every row: known beforehand, so it goes into the bias
            bias = (bias.double() + lowest * sums.double() * weight.scales.double()).float()
        # four inputs of 16 outputs side by side, as one instruction takes them
        fours = weight.values.view(torch.int32).view(num_out // _TILE, _TILE, num_in // _TOGETHER)
        self._packed = fours.transpose(1, 2).contiguous()
        self._scales = weight.scales / num_steps
        self._offsets = (middle * sums).to(torch.int32)
        self._bias = bias.contiguous()
        #: what the compiled code is told of this matrix; valid for as long as this object is
        self.struct = MatrixStruct(
            packed=self._packed.data_ptr(),
            scales=self._scales.data_ptr(),
            offsets=self._offsets.data_ptr(),
            bias=self._bias.data_ptr(),
            shift=0.0 if lowest is None else -lowest,
            middle=middle,
            num_steps=num_steps,
            num_in=num_in,
            num_out=num_out,
        )

    @staticmethod
    def fits(weight: Int8Weight) -> bool:
        """Says whether the matrix can be cut into tiles."""
        num_out, num_in = weight.values.shape
        return num_out % _PAIR == 0 and num_in % _TILE == 0

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns [n, out] float32 for [n, in]; each row's is the same in any company."""
        rows = rows.contiguous()
        result = torch.empty(len(rows), self.struct.num_out)
        scratch = Scratch(len(rows), self.struct.num_in)
        self._library.multiply_rows(
            ctypes.byref(self.struct),
            ctypes.byref(scratch.struct),
            ctypes.c_void_p(rows.data_ptr()),
            ctypes.c_void_p(result.data_ptr()),
            self._library.run_parallel,
        )
        return result


def make_int8_linear(
    weight: Int8Weight, bias: torch.Tensor, lowest: float | None = None
) -> Int8Linear | NativeLinear:
    """Returns compiled products where there are any, and oneDNN's elsewhere.

    Args:
        weight: what is multiplied with.
        bias: [out] float32.
        lowest: what no activation lies below, where that is known.
    """
    library = load_native().library
    if library is not None and bias.device.type == "cpu" and NativeLinear.fits(weight):
        return NativeLinear(weight, bias, lowest, library)
    return Int8Linear(weight, bias, lowest)
