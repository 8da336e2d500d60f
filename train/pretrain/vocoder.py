"""The decoder's network: coqui's HiFi-GAN generator at a recipe's sizes.

Knows the arguments of stock `HifiDecoder`, and how a generator that was trained on mel blocks is
grafted onto GPT latents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from TTS.vocoder.models.hifigan_generator import HifiganGenerator

from app.engine.vocoder_weights import VocoderSizes
from train.decoder import generator
from train.mels import MEL_RATE
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
    """Returns an untrained generator that takes `width` channels."""
    sizes = VocoderSizes(
        latent_dim=width,
        speaker_dim=SPEAKER_WIDTH,
        block_type=part.resblock,
        block_kernels=tuple(part.kernels),
        block_dilations=tuple(tuple(row) for row in part.dilations),
        upsample_rates=tuple(part.upsample_rates),
        upsample_kernels=tuple(part.upsample_kernels),
        first_channels=part.initial_channels,
    )
    return generator.build_generator(sizes)


def code_scales(frames_per_code: int) -> tuple[float, float]:
    """Returns by how much latents are stretched: from codes to frames, then to the audio's rate."""
    return float(frames_per_code), AUDIO_RATE / MEL_RATE


def stretch(latents: Tensor, frames_per_code: int) -> Tensor:
    """Returns latents [B, C, codes] at the generator's rate, as `HifiDecoder.forward` does."""
    return generator.stretch(latents, code_scales(frames_per_code))


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
