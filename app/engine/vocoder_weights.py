"""The weights of the HiFi-GAN generator, taken from a stock XTTS state dict.

Knows the stock names and shapes (coqui-tts 0.28: `TTS/tts/layers/xtts/hifigan_decoder.py` and
`TTS/vocoder/models/hifigan_generator.py`) and folds weight norm away; knows nothing of streams.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from app.engine.weight_reader import WeightReader, read_size
from app.errors import ModelFileError

_PREFIX = "hifigan_decoder.waveform_decoder."
_EDGE_KERNEL = 7  # of the first and the last convolution
# A residual block of type 1 has three pairs of convolutions, one of type 2 two single ones; a
# kernel's further dilations are not used (hifigan_generator.py, ResBlock1 and ResBlock2).
_NUM_STAGES = {"1": 3, "2": 2}


@dataclass(frozen=True)
class VocoderSizes:
    """Shape of the generator and the rates it works at; the defaults are stock's."""

    latent_dim: int = 1024
    speaker_dim: int = 512
    input_sample_rate: int = 22050
    output_sample_rate: int = 24000
    output_hop: int = 256
    code_stride: int = 1024
    block_type: str = "1"
    block_kernels: tuple[int, ...] = (3, 7, 11)
    block_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates: tuple[int, ...] = (8, 8, 2, 2)
    upsample_kernels: tuple[int, ...] = (16, 16, 4, 4)
    first_channels: int = 512
    speaker_in_each_layer: bool = True

    @classmethod
    def from_args(cls, args: Mapping[str, Any], decoder: Mapping[str, Any] | None) -> VocoderSizes:
        """Reads `config.json`'s `model_args` and, where there is one, `decoder.json`.

        Raises:
            ModelFileError: a value makes no sense.
        """
        decoder = decoder or {}
        sizes = cls(
            latent_dim=read_size(args, "decoder_input_dim", cls.latent_dim),
            speaker_dim=read_size(args, "d_vector_dim", cls.speaker_dim),
            input_sample_rate=read_size(args, "input_sample_rate", cls.input_sample_rate),
            output_sample_rate=read_size(args, "output_sample_rate", cls.output_sample_rate),
            output_hop=read_size(args, "output_hop_length", cls.output_hop),
            code_stride=read_size(args, "gpt_code_stride_len", cls.code_stride),
            block_type=str(decoder.get("resblock_type_decoder", cls.block_type)),
            block_kernels=_ints(decoder, "resblock_kernel_sizes_decoder", cls.block_kernels),
            block_dilations=_dilations(decoder, cls.block_dilations),
            upsample_rates=_ints(decoder, "upsample_rates_decoder", cls.upsample_rates),
            upsample_kernels=_ints(decoder, "upsample_kernel_sizes_decoder", cls.upsample_kernels),
            first_channels=read_size(
                decoder, "upsample_initial_channel_decoder", cls.first_channels
            ),
            speaker_in_each_layer=bool(args.get("cond_d_vector_in_each_upsampling_layer", True)),
        )
        sizes.check_or_raise()
        return sizes

    def channels(self, layer: int) -> int:
        """Channels after upsampling layer `layer` (0-based); they halve with each."""
        return self.first_channels >> (layer + 1)

    def check_or_raise(self) -> None:
        """Raises ModelFileError where the sizes do not fit each other."""
        pairs = list(zip(self.upsample_rates, self.upsample_kernels, strict=False))
        stages = _NUM_STAGES.get(self.block_type, 0)
        fits = {
            "resblock_type_decoder": stages > 0,
            "resblock_kernel_sizes_decoder": all(size % 2 == 1 for size in self.block_kernels),
            "resblock_dilation_sizes_decoder": len(self.block_dilations) == len(self.block_kernels)
            and all(len(row) >= stages and min(row) > 0 for row in self.block_dilations),
            "upsample_kernel_sizes_decoder": len(self.upsample_rates) == len(self.upsample_kernels)
            and all(0 < rate <= kernel for rate, kernel in pairs),
            # otherwise the audio would not come out at output_sample_rate
            "upsample_rates_decoder": math.prod(self.upsample_rates) == self.output_hop,
            "upsample_initial_channel_decoder": self.channels(len(pairs) - 1) > 0,
            "sample rates and hops": min(self.input_sample_rate, self.output_sample_rate) > 0
            and min(self.output_hop, self.code_stride) > 0,
        }
        wrong = [key for key, value in fits.items() if not value]
        if wrong:
            raise ModelFileError(
                f"decoder.json: {', '.join(wrong)} can't be right for this vocoder ({self}). "
                "Take the files that came with the weights."
            )


@dataclass(frozen=True)
class ConvWeights:
    """A convolution: `weight` [out, in, kernel], or [in, out, kernel] where it upsamples."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    dilation: int = 1

    @property
    def padding(self) -> int:
        """Zeros at either end that keep the length (hifigan_generator.py, get_padding)."""
        return (self.weight.shape[-1] - 1) * self.dilation // 2


@dataclass(frozen=True)
class BlockWeights:
    """A residual block: stages of one or two convolutions, each stage added to its input."""

    stages: tuple[tuple[ConvWeights, ...], ...]


@dataclass(frozen=True)
class UpsampleWeights:
    """One upsampling layer with its residual blocks, whose mean is its output."""

    up: ConvWeights
    rate: int
    speaker: ConvWeights | None
    blocks: tuple[BlockWeights, ...]


@dataclass(frozen=True)
class VocoderWeights:
    """All that turning latents into samples needs."""

    sizes: VocoderSizes
    first: ConvWeights
    speaker: ConvWeights
    layers: tuple[UpsampleWeights, ...]
    last: ConvWeights

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.first.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept and computed in."""
        return self.first.weight.dtype

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, torch.Tensor],
        model_args: Mapping[str, Any],
        decoder_sizes: Mapping[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> VocoderWeights:
        """Takes the generator's tensors from a stock state dict and checks every shape.

        Weight norm may come in either of torch's spellings, or folded into plain weights.

        Args:
            state: tensors by stock name (`hifigan_decoder.waveform_decoder.*`).
            model_args: `config.json`'s `model_args`.
            decoder_sizes: `decoder.json`, where there is one; stock's sizes otherwise.
            dtype: type to keep and compute in.
            device: where to keep them.

        Raises:
            ModelFileError: a tensor is missing or of the wrong shape, or a size makes no sense.
        """
        sizes = VocoderSizes.from_args(model_args, decoder_sizes)
        # folded in float32, whatever the file's and the target type
        reader = _ConvReader(WeightReader(state, _PREFIX, torch.float32, "cpu"), dtype, device)
        num_layers = len(sizes.upsample_rates)
        last_channels = sizes.channels(num_layers - 1)
        return cls(
            sizes=sizes,
            first=reader.conv("conv_pre", sizes.first_channels, sizes.latent_dim, _EDGE_KERNEL),
            speaker=reader.conv("cond_layer", sizes.first_channels, sizes.speaker_dim, 1),
            layers=tuple(_read_layer(reader, sizes, index) for index in range(num_layers)),
            last=reader.conv("conv_post", 1, last_channels, _EDGE_KERNEL, has_bias=None),
        )


class _ConvReader:
    """Reads convolutions by their stock names, weight norm folded."""

    def __init__(
        self, reader: WeightReader, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self._reader = reader
        self._dtype = dtype
        self._device = device

    def conv(
        self,
        name: str,
        *shape: int,
        dilation: int = 1,
        bias: int | None = None,
        has_bias: bool | None = True,
    ) -> ConvWeights:
        """Takes `name`; `bias` is its length if not `shape[0]`; `has_bias` None asks the file."""
        wanted = self._reader.has(f"{name}.bias") if has_bias is None else has_bias
        bias_values = self._reader.take(f"{name}.bias", bias or shape[0]) if wanted else None
        return ConvWeights(
            weight=self._place(self._fold(name, shape)),
            bias=None if bias_values is None else self._place(bias_values),
            dilation=dilation,
        )

    def _place(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._device, self._dtype)

    def _fold(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Folds w = g * v / |v|, the norm over all but the first axis (Salimans, Kingma 2016)."""
        for scale, direction in (
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
            ("weight_g", "weight_v"),
        ):
            if self._reader.has(f"{name}.{scale}"):
                size = self._reader.take(f"{name}.{scale}", shape[0], 1, 1)
                vector = self._reader.take(f"{name}.{direction}", *shape)
                length = torch.linalg.vector_norm(vector, dim=(1, 2), keepdim=True)
                return size.mul(vector).div(length)
        return self._reader.take(f"{name}.weight", *shape)


def _read_layer(reader: _ConvReader, sizes: VocoderSizes, index: int) -> UpsampleWeights:
    channels = sizes.channels(index)
    wide = sizes.channels(index - 1)
    num_blocks = len(sizes.block_kernels)
    return UpsampleWeights(
        up=reader.conv(
            f"ups.{index}", wide, channels, sizes.upsample_kernels[index], bias=channels
        ),
        rate=sizes.upsample_rates[index],
        speaker=reader.conv(f"conds.{index}", channels, sizes.speaker_dim, 1)
        if sizes.speaker_in_each_layer
        else None,
        blocks=tuple(
            _read_block(reader, sizes, f"resblocks.{index * num_blocks + block}", channels, block)
            for block in range(num_blocks)
        ),
    )


def _read_block(
    reader: _ConvReader, sizes: VocoderSizes, name: str, channels: int, block: int
) -> BlockWeights:
    shape = (channels, channels, sizes.block_kernels[block])
    stages: list[tuple[ConvWeights, ...]] = []
    for stage in range(_NUM_STAGES[sizes.block_type]):
        dilation = sizes.block_dilations[block][stage]
        if sizes.block_type == "1":
            wide = reader.conv(f"{name}.convs1.{stage}", *shape, dilation=dilation)
            stages.append((wide, reader.conv(f"{name}.convs2.{stage}", *shape)))
        else:
            stages.append((reader.conv(f"{name}.convs.{stage}", *shape, dilation=dilation),))
    return BlockWeights(stages=tuple(stages))


def _ints(sizes: Mapping[str, Any], key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    value = sizes.get(key, default)
    if not _is_ints(value):
        raise ModelFileError(f"decoder.json: {key} is {value!r}, expected a list of whole numbers.")
    return tuple(value)


def _dilations(
    sizes: Mapping[str, Any], default: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, ...], ...]:
    key = "resblock_dilation_sizes_decoder"
    value = sizes.get(key, default)
    if not isinstance(value, Sequence) or not all(_is_ints(row) for row in value):
        raise ModelFileError(f"decoder.json: {key} is {value!r}, expected lists of whole numbers.")
    return tuple(tuple(row) for row in value)


def _is_ints(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    )
