"""AdamW whose two running means are kept in 8 bits: 2 bytes a weight in the place of 8.

As in Dettmers et al., 2021 (arXiv 2110.02861), numbers share a scale by blocks, so that one large
one does not wipe out all others, and are dense near zero; short tensors stay in float32. Codes are
roots here and not their dynamic tree: the same range in two lines of arithmetic, on any device. The
mean of squares is never zero (Li et al., 2023, arXiv 2309.01507: a zero there makes endless steps).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

#: Numbers that share a scale.
_BLOCK = 256
#: Tensors with fewer numbers than this stay in float32, as in bitsandbytes.
_LEAST = 4096
#: Numbers that are widened at once: what is in work stays small.
_PIECE = 1 << 20
#: The mean of gradients: sign and square root, down to 6e-5 of the largest in its block.
_MEAN_STEPS = 127
#: The mean of squares: fourth root, down to 2e-10 of the largest.
_SQUARE_STEPS = 255
_NAMES_8BIT = ("mean", "mean_scale", "square", "square_scale")


class AdamW8bit(torch.optim.Optimizer):
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) over float32 weights, on any device.

    Args:
        groups: as for `torch.optim.AdamW`; `weight_decay` may stand in a group.
        lr: learning rate.
        betas: of the two running means.
        eps: is added to the root of the mean of squares.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float = 1e-8,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Moves every weight that has a gradient; takes no closure."""
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back what `state_dict` returned.

        Raises:
            ValueError: it is another optimizer's.
        """
        for state in state_dict["state"].values():
            if "mean" not in state:
                raise ValueError("its optimizer kept other numbers than AdamW in 8 bits does")
        super().load_state_dict(state_dict)
        # torch has made all of them float32, as the weights are
        for state in self.state.values():
            if "mean_scale" in state:
                state["mean"] = state["mean"].to(torch.int8)
                state["square"] = state["square"].to(torch.uint8)

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=0, **_zeros(parameter))
        state["step"] += 1
        weights, gradient = parameter.view(-1), parameter.grad
        assert gradient is not None
        gradient = gradient.reshape(-1)
        if "mean_scale" not in state:
            _adamw(weights, gradient, state["mean"], state["square"], state["step"], group)
            return
        for start in range(0, weights.numel(), _PIECE):
            piece = slice(start, min(start + _PIECE, weights.numel()))
            size = piece.stop - piece.start
            blocks = slice(start // _BLOCK, -(-piece.stop // _BLOCK))
            rows = {name: state[name][blocks] for name in _NAMES_8BIT}
            mean = widen_mean(rows["mean"], rows["mean_scale"]).view(-1)
            square = widen_square(rows["square"], rows["square_scale"]).view(-1)
            _adamw(
                weights[piece], gradient[piece], mean[:size], square[:size], state["step"], group
            )
            # what is behind the last number of a tensor must not set a scale
            mean[size:], square[size:] = 0, 0
            narrow_mean(mean.view(-1, _BLOCK), rows["mean"], rows["mean_scale"])
            narrow_square(square.view(-1, _BLOCK), rows["square"], rows["square_scale"])


def _adamw(
    weights: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    group: dict[str, Any],
) -> None:
    """Moves weights [n] and their running means in place."""
    first, second = group["betas"]
    weights.mul_(1 - group["lr"] * group["weight_decay"])
    mean.lerp_(gradient, 1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    root = square.sqrt().div_(math.sqrt(1 - second**step)).add_(group["eps"])
    weights.addcdiv_(mean, root, value=-group["lr"] / (1 - first**step))


def _zeros(parameter: Tensor) -> dict[str, Tensor]:
    numel = parameter.numel()
    if numel < _LEAST:
        flat = parameter.detach().view(-1)
        return {"mean": torch.zeros_like(flat), "square": torch.zeros_like(flat)}
    size = (-(-numel // _BLOCK), _BLOCK)
    device = parameter.device
    return {
        "mean": torch.zeros(size, dtype=torch.int8, device=device),
        "mean_scale": torch.zeros(size[0], 1, device=device),
        "square": torch.zeros(size, dtype=torch.uint8, device=device),
        "square_scale": torch.zeros(size[0], 1, device=device),
    }


def widen_mean(codes: Tensor, scale: Tensor) -> Tensor:
    """Returns float32 [blocks, 256] for codes int8 [blocks, 256] and scale [blocks, 1]."""
    root = codes.float().div_(_MEAN_STEPS)
    return root.mul_(root.abs()).mul_(scale)


def narrow_mean(values: Tensor, codes: Tensor, scale: Tensor) -> None:
    """Writes values [blocks, 256] into codes and scale; changes nothing else."""
    torch.amax(values.abs(), dim=1, keepdim=True, out=scale)
    root = (values.abs() / scale).nan_to_num_(0.0).sqrt_().copysign_(values)
    codes.copy_(root.mul_(_MEAN_STEPS).round_())


def widen_square(codes: Tensor, scale: Tensor) -> Tensor:
    """Returns float32 [blocks, 256] for codes uint8 [blocks, 256] and scale [blocks, 1]."""
    return codes.float().div_(_SQUARE_STEPS).square_().square_().mul_(scale)


def narrow_square(values: Tensor, codes: Tensor, scale: Tensor) -> None:
    """Writes values [blocks, 256], none negative, into codes and scale."""
    torch.amax(values, dim=1, keepdim=True, out=scale)
    root = (values / scale).nan_to_num_(0.0).sqrt_().sqrt_().mul_(_SQUARE_STEPS).round_()
    codes.copy_(root.clamp_(min=1))
