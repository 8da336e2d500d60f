"""The decoder's network: coqui's HiFi-GAN generator at a recipe's sizes.

Knows the arguments of stock `HifiDecoder`, how it stretches latents in time, and how a generator
that was trained on mel blocks is grafted onto GPT latents.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from TTS.vocoder.models.hifigan_generator import HifiganGenerator

from train.mels import HOP, MEL_RATE
from train.pretrain.corpus import AUDIO_RATE
from train.pretrain.recipe import DecoderPart

SPEAKER_WIDTH = 512


def decoder_arguments(part: DecoderPart) -> dict[str, Any]:
    """Returns `decoder.json`: what stock `HifiDecoder` takes and `config.json` has no key for."""
    return {
        "resblock_type_decoder": part.resblock,
        "resblock_kernel_sizes_decoder": part.kernels,
        "resblock_dilation_sizes_decoder": part.dilations,
        "upsample_rates_decoder": part.upsample_rates,
        "upsample_kernel_sizes_decoder": part.upsample_kernels,
        "upsample_initial_channel_decoder": part.initial_channels,
    }


def build_generator(part: DecoderPart, width: int) -> HifiganGenerator:
    """Returns an untrained generator that takes `width` channels (as `HifiDecoder` builds it)."""
    return HifiganGenerator(
        width,
        1,
        part.resblock,
        part.dilations,
        part.kernels,
        part.upsample_kernels,
        part.initial_channels,
        part.upsample_rates,
        inference_padding=0,
        cond_channels=SPEAKER_WIDTH,
        conv_pre_weight_norm=False,
        conv_post_weight_norm=False,
        conv_post_bias=False,
        cond_in_each_up_layer=True,
    )


def stretch(latents: Tensor, frames_per_code: int) -> Tensor:
    """Returns latents [B, C, codes] at the generator's rate, as `HifiDecoder.forward` does."""
    frames = F.interpolate(latents, scale_factor=float(frames_per_code), mode="linear")
    stretched: Tensor = F.interpolate(frames, scale_factor=AUDIO_RATE / MEL_RATE, mode="linear")
    return stretched


def stretched_samples(num_codes: int, frames_per_code: int) -> int:
    """Returns the samples that `num_codes` latents become."""
    return int(num_codes * frames_per_code * AUDIO_RATE / MEL_RATE) * HOP


def speaker_vectors(count: int, seed: int) -> Tensor:
    """Returns `count` orthogonal unit vectors [count, 512] to tell speakers apart by."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(SPEAKER_WIDTH, count, generator=generator))
    vectors: Tensor = basis.T.contiguous()
    return vectors


@torch.no_grad()
def graft(from_mels: HifiganGenerator, mel_out: nn.Linear, part: DecoderPart) -> HifiganGenerator:
    """Returns a generator for GPT latents that starts where the one for mel blocks ended.

    The latents' mel head is linear and so is the first convolution, and stretching in time
    commutes with both: their product is the new first convolution, exactly (but for edges).
    """
    grafted = build_generator(part, mel_out.in_features)
    state = from_mels.state_dict()
    weight = state["conv_pre.weight"]
    state["conv_pre.weight"] = torch.einsum("cmk,md->cdk", weight, mel_out.weight)
    state["conv_pre.bias"] = state["conv_pre.bias"] + weight.sum(2) @ mel_out.bias
    grafted.load_state_dict(state)
    return grafted
