"""The decoder's adversary: teaches the discriminators, and tells the decoder what they noticed.

Least-squares losses and feature matching as in HiFi-GAN (Kong et al. 2020), each a mean over the
discriminators, so that weights do not depend on their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from train.decoder.discriminators import Discriminators
from train.parallel import average_gradients

#: HiFi-GAN's.
_BETAS = (0.8, 0.99)
_FEATURE_WEIGHT = 2.0


class Adversary:
    """The discriminators with their own optimizer; the decoder's loop knows nothing of either.

    Args:
        accelerator: of the training.
        seed: of the untrained discriminators.
        channels: of their first layers.
        rate: learning rate.
    """

    def __init__(
        self, accelerator: Accelerator, seed: int, channels: int = 16, rate: float = 4e-4
    ) -> None:
        torch.manual_seed(seed)
        self._accelerator = accelerator
        self._networks = Discriminators(channels).to(accelerator.device)
        self._optimizer = torch.optim.AdamW(self._networks.parameters(), lr=rate, betas=_BETAS)

    def teach(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Makes one step of the discriminators on waveforms [rows, samples]; returns their loss."""
        found = self._networks(torch.cat((wanted, made.detach())))
        rows = len(wanted)
        losses = [
            (1 - maps[-1][:rows].float()).square().mean() + maps[-1][rows:].float().square().mean()
            for maps in found
        ]
        loss = torch.stack(losses).mean()
        self._optimizer.zero_grad(set_to_none=True)
        self._accelerator.backward(loss)
        average_gradients(self._networks, self._accelerator)
        self._optimizer.step()
        return loss.detach()

    def judge(self, made: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """Returns what the decoder is to lower: `adversary`, with `fooling` and `features` in it.

        Gradients reach `made` and leave the discriminators alone.
        """
        with self._frozen():
            own = self._networks(made)
            with torch.no_grad():
                true = self._networks(wanted)
        fooling = torch.stack([(1 - maps[-1].float()).square().mean() for maps in own]).mean()
        features = torch.stack(
            [
                F.l1_loss(a.float(), b.float())
                for maps, wanted_maps in zip(own, true, strict=True)
                for a, b in zip(maps[:-1], wanted_maps[:-1], strict=True)
            ]
        ).mean()
        total = fooling + _FEATURE_WEIGHT * features
        return {"adversary": total, "fooling": fooling, "features": features}

    def state(self) -> dict[str, Any]:
        """Returns what a resume needs."""
        return {
            "discriminators": self._networks.state_dict(),
            "discriminators_optimizer": self._optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes back `state`."""
        self._networks.load_state_dict(state["discriminators"])
        self._optimizer.load_state_dict(state["discriminators_optimizer"])

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        self._networks.requires_grad_(False)
        try:
            yield
        finally:
            self._networks.requires_grad_(True)
