"""Coqui's HiFi-GAN generator at any sizes, in and out of a model's weights.

Knows how stock `HifiDecoder` builds it and stretches latents in time, and the spellings of weight
norm in files: torch's newer one (`parametrizations`), the older (`weight_g`, `weight_v`), or none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from TTS.vocoder.models.hifigan_generator import HifiganGenerator

from app.engine.vocoder_weights import VocoderSizes
from app.errors import OutputError
from app.models.weights import State, check_shapes_or_raise, select
from train.bundle_files import to_half

PREFIX = "hifigan_decoder.waveform_decoder."
_SCALE, _VECTOR = "parametrizations.weight.original0", "parametrizations.weight.original1"
#: Other names for the two parts of a normed weight.
_OLD_NAMES = {_SCALE: "weight_g", _VECTOR: "weight_v"}


# under no_grad, torch would leave the first convolution a weight that can't be trained
@torch.set_grad_enabled(True)
def build_generator(sizes: VocoderSizes) -> HifiganGenerator:
    """Returns an untrained generator, as `HifiDecoder` builds it."""
    return HifiganGenerator(
        sizes.latent_dim,
        1,
        sizes.block_type,
        [list(row) for row in sizes.block_dilations],
        list(sizes.block_kernels),
        list(sizes.upsample_kernels),
        sizes.first_channels,
        list(sizes.upsample_rates),
        inference_padding=0,
        cond_channels=sizes.speaker_dim,
        conv_pre_weight_norm=False,
        conv_post_weight_norm=False,
        conv_post_bias=False,
        cond_in_each_up_layer=sizes.speaker_in_each_layer,
    )


def stretch(latents: Tensor, scales: Sequence[float]) -> Tensor:
    """Returns latents [B, C, codes] at the generator's rate, as `HifiDecoder.forward` does.

    Args:
        latents: one for each code.
        scales: factors in time, applied one after another (`app.engine.vocoder.frame_scales`).
    """
    for scale in scales:
        latents = F.interpolate(latents, scale_factor=scale, mode="linear")
    return latents


def stretched_samples(num_codes: int, scales: Sequence[float], hop: int) -> int:
    """Returns the samples that so many latents become; rounded down after each scale, as torch."""
    length = num_codes
    for scale in scales:
        length = int(length * scale)
    return length * hop


def samples_per_code(scales: Sequence[float], hop: int) -> float:
    """Returns how many samples of the output a code stands for."""
    return math.prod(scales) * hop


def load_generator(state: State, sizes: VocoderSizes, path: Path) -> HifiganGenerator:
    """Returns the generator of a model, in float32, in memory of its own.

    Args:
        state: all tensors of the model by stock name.
        sizes: of its decoder.
        path: of the file, for messages.

    Raises:
        ModelFileError: a tensor is missing, unknown or of another shape than the sizes say.
    """
    generator = build_generator(sizes)
    expected = {name: tuple(value.shape) for name, value in generator.state_dict().items()}
    stored = select(state, PREFIX)
    found = {name: value.float().clone() for name, value in _normed(stored, expected).items()}
    check_shapes_or_raise(found, expected, path)
    generator.load_state_dict(found)
    return generator


def put_back(base: State, trained: Mapping[str, Tensor]) -> State:
    """Returns the tensors of a model with another generator in it; all others are the same objects.

    Each of the generator's tensors keeps the name and the number format that it has in `base`.

    Args:
        base: all tensors of the model by stock name.
        trained: `state_dict` of a generator that `load_generator` made of it.

    Raises:
        OutputError: a weight is not finite, or too large for float16.
    """
    made = dict(base)
    for name, value in base.items():
        if name.startswith(PREFIX):
            found = _as_named(name.removeprefix(PREFIX), trained)
            made[name] = _stored(name, found, value.dtype)
    return made


def _normed(stored: State, expected: Mapping[str, tuple[int, ...]]) -> State:
    """Returns a file's tensors under the names of a fresh generator."""
    found = dict(stored)
    for name in expected:
        if not name.endswith(_SCALE) or name in found:
            continue
        layer = name.removesuffix(_SCALE)
        old = {part: f"{layer}{_OLD_NAMES[part]}" for part in (_SCALE, _VECTOR)}
        if all(spelling in found for spelling in old.values()):
            for part, spelling in old.items():
                found[f"{layer}{part}"] = found.pop(spelling)
        elif f"{layer}weight" in found:  # folded: the weight is its own direction
            weight = found.pop(f"{layer}weight").float()
            found[f"{layer}{_SCALE}"] = _length(weight)
            found[f"{layer}{_VECTOR}"] = weight
    return found


def _as_named(name: str, trained: Mapping[str, Tensor]) -> Tensor:
    """Returns the tensor that a file calls `name`."""
    if name in trained:
        return trained[name]
    for part, old in _OLD_NAMES.items():
        if name.endswith(old):
            return trained[name.removesuffix(old) + part]
    layer = name.removesuffix("weight")
    vector = trained[layer + _VECTOR]
    # w = g * v / |v|, the norm over all but the first axis (Salimans, Kingma 2016)
    return trained[layer + _SCALE] * vector / _length(vector)


def _length(weight: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True)
    return length


def _stored(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach().cpu()
    if dtype == torch.float16:
        return to_half(name, value)
    if not bool(torch.isfinite(value).all()):
        raise OutputError(f"weight {name} is not finite; train again with a lower DECODER_RATE.")
    return value.to(dtype).contiguous().clone()
