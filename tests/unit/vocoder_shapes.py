"""Vocoders of every shape that a `decoder.json` may have, with random weights."""

from __future__ import annotations

from typing import Any

import torch
import toy

from app.engine.vocoder_weights import VocoderWeights

# type 1 and 2, upsampling kernels that are the rate itself, an odd amount larger, and stock's
SHAPES: dict[str, dict[str, Any]] = {
    "toy": {},
    "type 2": {
        "resblock_type_decoder": "2",
        "resblock_kernel_sizes_decoder": [3, 5, 7],
        "resblock_dilation_sizes_decoder": [[1, 2], [2, 6], [3, 12]],
    },
    "odd kernels": {
        "upsample_kernel_sizes_decoder": [8, 11, 7],
        "resblock_kernel_sizes_decoder": [1, 11],
    },
    "one block, stock's rates": {
        "upsample_rates_decoder": [8, 8, 2, 2],
        "upsample_kernel_sizes_decoder": [16, 16, 4, 4],
        "resblock_kernel_sizes_decoder": [3],
        "resblock_dilation_sizes_decoder": [[1, 3, 5]],
    },
}


def make_weights(shape: str) -> VocoderWeights:
    """Returns random weights of a shape, loud enough that differences show."""
    sizes = {**toy.DECODER_SIZES, **SHAPES[shape]}
    return VocoderWeights.from_state_dict(toy.vocoder_state(sizes), toy.MODEL_ARGS, sizes)


def make_latents(num: int) -> torch.Tensor:
    """Returns random latents [num, 64], the same for the same number."""
    return torch.randn(num, 64, generator=torch.Generator().manual_seed(num))
