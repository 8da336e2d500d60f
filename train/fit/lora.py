"""Low-rank adapters (Hu et al., 2021, arXiv 2106.09685) in the place of all weights.

Each matrix of the transformer layers stays as it is and gets a product of two thin ones beside it;
these alone are trained and saved for a resume. Merged, the result is a plain XTTS.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.fit.network import FitGpt, Projection

#: What the product is multiplied with ("alpha / r" of the paper, with alpha = 2 r).
SCALE = 2.0
_ADAPTER = (".lora_in", ".lora_out")


class AdaptedProjection(Projection):
    """A projection whose weight is frozen, plus `SCALE * lora_in @ lora_out`."""

    def __init__(self, plain: Projection, rank: int) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(plain.weight.detach(), requires_grad=False)
        self.bias = nn.Parameter(plain.bias.detach(), requires_grad=False)
        width_in, width_out = plain.weight.shape
        # one side starts at zero: the first step starts from the model as it was
        self.lora_in = nn.Parameter(torch.randn(width_in, rank) * width_in**-0.5)
        self.lora_out = nn.Parameter(torch.zeros(rank, width_out))

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns [..., out] for [..., in]."""
        plain = F.linear(hidden, self.weight.T, self.bias)
        out: Tensor = plain + SCALE * ((hidden @ self.lora_in) @ self.lora_out)
        return out

    @torch.no_grad()
    def merged(self) -> Tensor:
        """Returns the one weight [in, out] that does the same."""
        return self.weight + SCALE * (self.lora_in @ self.lora_out)


def add_adapters(network: FitGpt, rank: int, seed: int) -> None:
    """Freezes the network and gives every matrix of its layers an adapter."""
    network.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for block in network.gpt.h:
            for part in (block.attn, block.mlp):
                for name, layer in part.items():
                    part[name] = AdaptedProjection(layer, rank)


def merged_state(network: FitGpt) -> dict[str, Tensor]:
    """Returns the weights under stock's names, adapters merged in.

    Without adapters these are the network's own tensors, not copies.
    """
    state = {
        name: value.detach()
        for name, value in network.state_dict().items()
        if not name.endswith(_ADAPTER)
    }
    for name, module in network.named_modules():
        if isinstance(module, AdaptedProjection):
            state[f"{name}.weight"] = module.merged()
    return state


def trained_state(network: FitGpt) -> dict[str, Tensor]:
    """Returns what changes while training, for a resume: all weights, or the adapters."""
    return {
        name: parameter.detach()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def load_trained_state(network: FitGpt, state: dict[str, Tensor]) -> None:
    """Takes back what `trained_state` returned.

    Raises:
        ValueError: names or shapes differ.
    """
    own = trained_state(network)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if shapes != {name: tuple(value.shape) for name, value in own.items()}:
        raise ValueError("its weights have other names or shapes")
    for name, value in own.items():
        value.copy_(state[name])
