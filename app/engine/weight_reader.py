"""Takes named tensors out of a state dict and says plainly what is wrong with one that isn't right.

Knows names and shapes, not what the tensors are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from app.errors import ModelFileError

_REMEDY = "The file is incomplete or does not belong to this config.json: fetch both again."


class WeightReader:
    """Reads tensors below one prefix, as `dtype` on `device`, each of a known shape."""

    def __init__(
        self,
        state: Mapping[str, torch.Tensor],
        prefix: str,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self._state = state
        self._prefix = prefix
        self._dtype = dtype
        self._device = device

    def under(self, prefix: str) -> WeightReader:
        """Returns a reader for the names that begin with this one's prefix and `prefix`."""
        return WeightReader(self._state, self._prefix + prefix, self._dtype, self._device)

    def has(self, name: str) -> bool:
        """Says whether there is such a tensor."""
        return self._prefix + name in self._state

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape found, for sizes that stand nowhere else.

        Raises:
            ModelFileError: there is no such tensor.
        """
        return tuple(self._find(name).shape)

    def take(self, name: str, *shape: int) -> torch.Tensor:
        """Returns the tensor, contiguous.

        Raises:
            ModelFileError: it is missing or of another shape; both shapes are named.
        """
        return self.take_as(self._dtype, name, *shape)

    def take_as(self, dtype: torch.dtype, name: str, *shape: int) -> torch.Tensor:
        """Returns the tensor, contiguous, in a type of its own; otherwise as `take`."""
        tensor = self._find(name)
        if tuple(tensor.shape) != shape:
            raise ModelFileError(
                f"Tensor {self._prefix}{name} has shape {list(tensor.shape)}, "
                f"expected {list(shape)}. {_REMEDY}"
            )
        return tensor.detach().to(self._device, dtype).contiguous()

    def _find(self, name: str) -> torch.Tensor:
        tensor = self._state.get(self._prefix + name)
        if not isinstance(tensor, torch.Tensor):
            raise ModelFileError(f"Tensor {self._prefix}{name} is missing. {_REMEDY}")
        return tensor


def read_size(sizes: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Returns a whole number of at least 0 from a bundle's JSON.

    Raises:
        ModelFileError: it is absent without a default, or no such number.
    """
    value = sizes.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ModelFileError(
            f"config.json: {key} is {value!r}, expected a whole number of at least 0. "
            "Take the config.json that came with the weights."
        )
    return value
