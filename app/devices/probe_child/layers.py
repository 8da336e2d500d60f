"""What XTTS computes besides Fourier transforms, in the small: a GPT block and a vocoder stage.

The weights are the same in every number format: they, and the inputs, have at most the 8 bits of
mantissa that bfloat16 can hold, so the float64 result is the truth for all of them and only the
device's own arithmetic is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# XTTS's GPT: 1024 wide, 16 heads (coqui-tts 0.28, TTS/tts/models/xtts.py, XttsArgs).
_WIDTH, _NUM_HEADS = 1024, 16
# The first stage of XTTS's HiFi-GAN (TTS/tts/layers/xtts/hifigan_decoder.py).
_CHANNELS, _UPSAMPLE, _UP_KERNEL = 512, 8, 16
_RES_KERNEL, _RES_DILATION = 11, 5
_NUM_LATENTS = 24
_SEED = 31

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class LayerCheck:
    """A computation on given inputs, with the float64 result of the CPU."""

    name: str
    batch: int
    run: Callable[[Tensor, Weights], Tensor]
    inputs: Tensor  # float32 on the CPU, representable in bfloat16
    weights: Weights
    expected: Tensor  # float64 on the CPU

    def result_on(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Runs the computation on the device in the number format; returns it on the CPU."""
        weights = {name: value.to(device, dtype) for name, value in self.weights.items()}
        return self.run(self.inputs.to(device, dtype), weights).cpu()


def layer_checks() -> list[LayerCheck]:
    """Makes the checks: the GPT over a prompt, over one step of several rows, and the vocoder."""
    draw = torch.Generator().manual_seed(_SEED)
    gpt = {
        "qkv": _weights(draw, 3 * _WIDTH, _WIDTH),
        "out": _weights(draw, _WIDTH, _WIDTH),
        "up": _weights(draw, 4 * _WIDTH, _WIDTH),
        "down": _weights(draw, _WIDTH, 4 * _WIDTH),
    }
    half = _CHANNELS // 2
    vocoder = {
        "pre": _weights(draw, _CHANNELS, _CHANNELS, 7),
        "up": _weights(draw, _CHANNELS, half, _UP_KERNEL),
        "res": _weights(draw, half, half, _RES_KERNEL),
        "post": _weights(draw, 1, half, 7),
    }
    return [
        _check("gpt prompt of 64", _gpt_block, _inputs(draw, 2, 64, _WIDTH), gpt),
        _check("gpt step", _gpt_block, _inputs(draw, 4, 1, _WIDTH), gpt),
        _check("vocoder stage", _vocoder_stage, _inputs(draw, 2, _CHANNELS, _NUM_LATENTS), vocoder),
    ]


def _gpt_block(x: Tensor, weights: Weights) -> Tensor:
    """One pre-norm block of GPT-2's kind over [batch, positions, width]."""
    batch, positions, width = x.shape
    heads = F.linear(F.layer_norm(x, (width,)), weights["qkv"])
    heads = heads.view(batch, positions, 3, _NUM_HEADS, width // _NUM_HEADS)
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    x = x + F.linear(mixed.transpose(1, 2).reshape(batch, positions, width), weights["out"])
    hidden = F.linear(F.layer_norm(x, (width,)), weights["up"])
    block: Tensor = x + F.linear(F.gelu(hidden, approximate="tanh"), weights["down"])
    return block


def _vocoder_stage(x: Tensor, weights: Weights) -> Tensor:
    """HiFi-GAN in one stage over [batch, channels, latents]: upsampling, residual, to a wave."""
    x = F.conv1d(x, weights["pre"], padding=3)
    padding = (_UP_KERNEL - _UPSAMPLE) // 2
    x = F.conv_transpose1d(F.leaky_relu(x, 0.1), weights["up"], stride=_UPSAMPLE, padding=padding)
    padding = _RES_DILATION * (_RES_KERNEL - 1) // 2
    x = x + F.conv1d(F.leaky_relu(x, 0.1), weights["res"], padding=padding, dilation=_RES_DILATION)
    wave: Tensor = torch.tanh(F.conv1d(F.leaky_relu(x, 0.1), weights["post"], padding=3))
    return wave


def _check(
    name: str, run: Callable[[Tensor, Weights], Tensor], inputs: Tensor, weights: Weights
) -> LayerCheck:
    exact = {key: value.double() for key, value in weights.items()}
    expected = run(inputs.double(), exact)
    return LayerCheck(name, inputs.shape[0], run, inputs, weights, expected)


def _weights(draw: torch.Generator, *shape: int) -> Tensor:
    fan_in = shape[1] * (shape[2] if len(shape) > 2 else 1)
    values: Tensor = torch.randn(*shape, generator=draw) * fan_in**-0.5
    return values.bfloat16().float()


def _inputs(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw).bfloat16().float()
