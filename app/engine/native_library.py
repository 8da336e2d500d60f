"""The compiled layers as Python calls them: structs, the library, and whether it can be used here.

Mirrors the structs of `native/*.h` and `native/layers.c`, field by field. Knows addresses and
sizes; knows nothing of what is computed.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from app.engine.native_build import built_library

_Pointer = ctypes.c_void_p
_Int = ctypes.c_int32
_PHASE_BYTES = 128
_PHASES_PER_LAYER = 9
# torch has no public name for these
_INSTRUCTIONS = ("_is_avx512_supported", "_is_vnni_supported")

_log = logging.getLogger(__name__)


class MatrixStruct(ctypes.Structure):
    """`Matrix` of products.h."""

    _fields_ = (
        *((name, _Pointer) for name in ("packed", "scales", "offsets", "bias")),
        ("shift", ctypes.c_float),
        *((name, _Int) for name in ("middle", "num_steps", "num_in", "num_out")),
    )


class LayerStruct(ctypes.Structure):
    """`Layer` of layers.c."""

    _fields_ = (
        *((name, _Pointer * 2) for name in ("attn_norm", "mlp_norm")),
        *((name, MatrixStruct) for name in ("qkv", "out", "up", "down")),
    )


class ModelStruct(ctypes.Structure):
    """`Model` of layers.c."""

    _fields_ = (
        ("layers", ctypes.POINTER(LayerStruct)),
        *((name, _Int) for name in ("num_layers", "dim", "num_heads")),
    )


class CacheStruct(ctypes.Structure):
    """`Cache` of layers.c."""

    _fields_ = (
        ("kept", _Pointer),
        *((name, _Int) for name in ("num_places", "capacity", "is_half")),
    )


class BatchStruct(ctypes.Structure):
    """`Batch` of layers.c."""

    _fields_ = (
        *((name, _Int) for name in ("num_rows", "num_threads")),
        *((name, _Pointer) for name in ("places", "positions")),
        *((name, _Pointer) for name in ("hidden", "wide", "steps", "largest", "phases")),
    )


class NativeLibrary(NamedTuple):
    """The functions of layers.c, and what runs them on torch's own threads."""

    move_through_layers: Callable[..., None]
    multiply_rows: Callable[..., None]
    run_parallel: Any


class NativeChoice(NamedTuple):
    """The library, or None; `reason` says why."""

    library: NativeLibrary | None
    reason: str


class Scratch:
    """Room for one batch while it is computed: its own struct holds the addresses.

    Args:
        num_rows: positions.
        width: the widest row of 8-bit steps.
        wide: floats of each row's intermediate results; 0 for a product alone.
        num_layers: of the model; 0 for a product alone.
    """

    def __init__(self, num_rows: int, width: int, wide: int = 0, num_layers: int = 0) -> None:
        self._steps = torch.empty(num_rows, width, dtype=torch.uint8)
        self._wide = torch.empty(num_rows, wide)
        self._largest = torch.empty(num_rows)
        num_phases = max(2, num_layers * _PHASES_PER_LAYER)
        self._phases = torch.empty(num_phases * _PHASE_BYTES, dtype=torch.uint8)
        assert self._phases.data_ptr() % 64 == 0, "torch aligns to cache lines"
        self.struct = BatchStruct(
            num_rows=num_rows,
            num_threads=torch.get_num_threads(),
            wide=self._wide.data_ptr(),
            steps=self._steps.data_ptr(),
            largest=self._largest.data_ptr(),
            phases=self._phases.data_ptr(),
        )


@functools.cache
def load_native() -> NativeChoice:
    """Returns the compiled layers, compiling them if need be, and why they are used or not."""
    choice = _load()
    word = "is" if choice.library else "is not"
    _log.info("compiled code for the GPT's layers %s used: %s", word, choice.reason)
    return choice


def _load() -> NativeChoice:
    asked = [getattr(torch.cpu, name, None) for name in _INSTRUCTIONS]
    if not all(ask is not None and ask() for ask in asked):
        return NativeChoice(None, "the processor has no AVX-512 VNNI instructions")
    try:
        # OpenMP's own entry for compilers, of whatever runtime torch brought: so there is one pool
        run_parallel = ctypes.CDLL(None).GOMP_parallel
    except (OSError, AttributeError):
        return NativeChoice(None, "torch has no OpenMP runtime that can be shared")
    with built_library() as built:
        if built.path is None:
            return NativeChoice(None, built.reason)
        try:
            library = ctypes.CDLL(str(built.path))
        except OSError as error:
            return NativeChoice(None, f"it can't be loaded ({error})")
        functions = library.move_through_layers, library.multiply_rows
        for function in functions:
            function.restype = None
        return NativeChoice(NativeLibrary(*functions, run_parallel), built.reason)
