"""What several training processes must agree on: gradients, sums, troubles, and when to stop.

Every process holds the whole model, draws its own share of each step's batch and saves nothing
but in the first. Buffers are not shared: a job whose buffers learn trains in one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

#: Gradients are exchanged in pieces of so many numbers, so that their copy stays small.
_PIECE = 1 << 25
ItemT = TypeVar("ItemT")


def average_gradients(module: nn.Module, accelerator: Accelerator) -> None:
    """Replaces each gradient with its mean over all processes."""
    _exchange(module, accelerator, "mean")


def sum_gradients(module: nn.Module, accelerator: Accelerator) -> None:
    """Replaces each gradient with its sum over all processes."""
    _exchange(module, accelerator, "sum")


def sum_of(values: Tensor, accelerator: Accelerator) -> Tensor:
    """Returns the sum of a tensor over all processes."""
    if accelerator.num_processes == 1:
        return values
    total: Tensor = accelerator.reduce(values, reduction="sum")
    return total


def any_process(flag: bool, accelerator: Accelerator) -> bool:
    """Tells every process whether `flag` is true in any of them."""
    if accelerator.num_processes == 1:
        return flag
    return bool(sum_of(torch.tensor([float(flag)], device=accelerator.device), accelerator).item())


def from_all(items: Sequence[ItemT], accelerator: Accelerator) -> list[ItemT]:
    """Returns the items of all processes, in their order, to each of them."""
    if accelerator.num_processes == 1:
        return list(items)
    gathered: list[Any] = gather_object(list(items))
    return gathered


def _exchange(module: nn.Module, accelerator: Accelerator, how: Literal["mean", "sum"]) -> None:
    if accelerator.num_processes == 1:
        return
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for piece in _pieces(p.grad for p in parameters if p.grad is not None):
        flat = torch.cat([gradient.flatten() for gradient in piece])
        joined: Tensor = accelerator.reduce(flat, reduction=how)
        start = 0
        for gradient in piece:
            gradient.copy_(joined[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()


def _pieces(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    piece: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if piece and size + gradient.numel() > _PIECE:
            yield piece
            piece, size = [], 0
        piece.append(gradient)
        size += gradient.numel()
    if piece:
        yield piece
