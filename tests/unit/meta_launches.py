"""Counts what a device would be asked to do, on torch's `meta` device, which has no numbers.

So a word from the device to the host (`.item()`, `bool(tensor)`) raises there, but for copies of
whole tensors, which are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: They give memory, or another look at it, and launch nothing.
_FREE = {"aten::empty", "aten::new_empty", "aten::_unsafe_view", "aten::detach_"}
#: What only copies may do: have one part here and another there.
_COPIES = {"aten::copy_", "aten::to", "aten::_to_copy"}


class Launches(TorchDispatchMode):
    """Counts operations on `meta` by name, and copies of whole tensors from there and to there.

    An operation counts as one however many kernels a device takes for it; attention is one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.num_to_device = self.num_to_host = 0

    @property
    def num_operations(self) -> int:
        return sum(self.operations.values())

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        taken = [part for part in tree_leaves((args, kwargs)) if isinstance(part, torch.Tensor)]
        name = func._schema.name
        target = torch.device(next((p for p in args[1:] if isinstance(p, torch.device)), "meta"))
        target = torch.device(kwargs.get("device") or target)
        if name in _COPIES and taken[0].is_meta and target.type == "cpu":
            self.num_to_host += 1
            return torch.zeros(taken[0].shape, dtype=_dtype_of(args, kwargs, taken[0]))
        given = func(*args, **kwargs)
        out = [part for part in tree_leaves(given) if isinstance(part, torch.Tensor)]
        places = {part.device.type for part in (*taken, *out)}
        if places == {"cpu", "meta"}:
            if name not in _COPIES:
                raise AssertionError(f"{name} takes parts of the host and of the device")
            self.num_to_device += 1
        elif "meta" in places and name not in _FREE and not _shares_memory(func, taken, out):
            self.operations[name.removeprefix("aten::")] += 1
        return given


def _shares_memory(func: Any, taken: list[torch.Tensor], out: list[torch.Tensor]) -> bool:
    """Says whether it was only another look; `reshape` and `to` copy where they have to."""
    if not func.is_view:
        return False
    memory = {part.untyped_storage()._cdata for part in taken}
    return all(part.untyped_storage()._cdata in memory for part in out)


def _dtype_of(args: Sequence[Any], kwargs: dict[str, Any], part: torch.Tensor) -> torch.dtype:
    named = [*args[1:], kwargs.get("dtype")]
    return next((dtype for dtype in named if isinstance(dtype, torch.dtype)), part.dtype)
