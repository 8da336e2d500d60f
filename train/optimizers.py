"""AdamW over the parameters of a module, in groups of like rate and decay."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from app.errors import SettingsError
from train.adamw_8bit import AdamW8bit

OptimizerKind = Literal["adamw", "adamw8bit"]
_SLOW_SHARE = 0.1


def make_optimizer(
    module: nn.Module,
    *,
    rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    slow: tuple[str, ...] = (),
    kind: OptimizerKind = "adamw",
) -> torch.optim.Optimizer:
    """Returns AdamW with one group for each pair of (slow or not, decayed or not).

    Each group's `share` is what it takes of the step's rate; vectors and scalars don't decay.

    Args:
        module: its parameters that want a gradient are trained.
        rate: learning rate.
        betas: of the two running means.
        weight_decay: of matrices.
        slow: prefixes of parameters that move at a tenth of the rate.
        kind: `adamw8bit` keeps the running means in 8 bits.

    Raises:
        SettingsError: the module is on a GPU, and bitsandbytes is not installed.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith(slow) if slow else False, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    described = [
        {
            "params": parameters,
            "share": _SLOW_SHARE if is_slow else 1.0,
            "weight_decay": weight_decay if is_decayed else 0.0,
        }
        for (is_slow, is_decayed), parameters in sorted(groups.items(), key=lambda g: g[0])
    ]
    if kind == "adamw8bit":
        return _adamw8bit(described, rate, betas)
    return torch.optim.AdamW(described, lr=rate, betas=betas, fused=True)


def _adamw8bit(
    groups: list[dict[str, Any]], rate: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """Returns bitsandbytes' on an NVIDIA GPU, where its kernels count, and ours elsewhere."""
    if groups[0]["params"][0].device.type != "cuda":
        return AdamW8bit(groups, lr=rate, betas=betas)
    try:
        import bitsandbytes
    except ImportError as error:
        raise SettingsError(
            "OPTIMIZER=adamw8bit needs the package bitsandbytes on a GPU: install the extra "
            "`adam8bit` (pip install 'audio-voice[adam8bit]'), or set OPTIMIZER=adamw.",
            param="OPTIMIZER",
        ) from error
    optimizer: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(groups, lr=rate, betas=betas)
    return optimizer
