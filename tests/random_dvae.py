"""A small DVAE with random weights whose codes vary with what it hears."""

from __future__ import annotations

from typing import Any

import torch
from TTS.tts.layers.xtts.dvae import DiscreteVAE

SIZES: dict[str, Any] = {
    "channels": 80,
    "positional_dims": 1,
    "num_tokens": 1024,
    "codebook_dim": 32,
    "hidden_dim": 16,
    "num_resnet_blocks": 1,
    "kernel_size": 3,
    "num_layers": 2,
    "use_transposed_convs": False,
}


def random_dvae(**changes: int) -> DiscreteVAE:
    """Returns a DVAE of `SIZES`; its codebook holds what its encoder makes of noise."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        dvae = DiscreteVAE(**{**SIZES, **changes}).eval()
        num_tokens = dvae.num_tokens
        noise = 3 * torch.randn(1, 80, 2**dvae.num_layers * num_tokens) - 2
        dvae.codebook.embed.copy_(dvae.encoder(noise)[0])
    return dvae
