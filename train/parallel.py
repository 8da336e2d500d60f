"""What several training processes must agree on: gradients, and when to stop.

Every process holds the whole model, draws its own share of each step's batch and saves nothing
but in the first. Buffers are not shared: a job whose buffers learn trains in one process.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn


def average_gradients(module: nn.Module, accelerator: Accelerator) -> None:
    """Replaces each gradient with its mean over all processes, in one exchange."""
    if accelerator.num_processes == 1:
        return
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    mean: torch.Tensor = accelerator.reduce(flat, reduction="mean")
    start = 0
    for gradient in gradients:
        gradient.copy_(mean[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def any_process(flag: bool, accelerator: Accelerator) -> bool:
    """Tells every process whether `flag` is true in any of them."""
    if accelerator.num_processes == 1:
        return flag
    count = torch.tensor([float(flag)], device=accelerator.device)
    total: torch.Tensor = accelerator.reduce(count, reduction="sum")
    return bool(total.item() > 0)
