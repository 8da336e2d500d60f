"""The weights of the GPT that writes audio tokens, taken from a stock XTTS state dict.

Knows the stock names and shapes (coqui-tts 0.28: `TTS/tts/layers/xtts/gpt.py` over GPT-2 of
transformers); knows nothing of files, and nothing of how the weights are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from app.engine.int8_linear import Int8Linear, Int8Weight
from app.engine.linear import Linear, make_linear
from app.engine.native_linear import NativeLinear, make_int8_linear
from app.engine.weight_reader import WeightReader, read_size
from app.errors import ModelFileError

# Stock adds these to the configured lengths (gpt.py, `GPT.__init__`, max_conditioning_inputs = 1):
# both position tables hold start and stop, the audio table one position more.
_EXTRA_TEXT_POSITIONS = 2
_EXTRA_AUDIO_POSITIONS = 3
_UNUSED_AUDIO_TOKENS = 3  # max_gen_mel_tokens = max_mel_tokens - 1 - 2
# The least of GPT-2's gelu is -0.17004, at -0.75246.
_LEAST_OF_GELU = -0.1701
#: A quantised weight's two parts follow the weight's own name with these.
INT8_VALUES, INT8_SCALES = ".int8", ".int8_scales"
_QUANTISED = re.compile(
    r"gpt\.gpt\.h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight"
)


#: Positions beside voice, text and audio: start and stop of the text, start of the audio.
NUM_SPECIAL = 3


@dataclass(frozen=True)
class GptSizes:
    """Shape of the GPT and the ids of its special tokens."""

    num_layers: int
    model_dim: int
    num_heads: int
    num_text_tokens: int
    num_audio_tokens: int
    start_text_token: int
    stop_text_token: int
    start_audio_token: int
    stop_audio_token: int
    #: most text tokens of a segment, without start and stop
    max_text_tokens: int
    #: most audio tokens drawn for a segment, the stop token included
    max_audio_tokens: int

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.model_dim // self.num_heads

    def cache_bytes(self, num_positions: int, dtype: torch.dtype) -> int:
        """Size of the keys and values of so many positions."""
        return num_positions * 2 * self.num_layers * self.model_dim * dtype.itemsize

    @classmethod
    def from_args(cls, args: Mapping[str, Any], num_text_tokens: int) -> GptSizes:
        """Reads `config.json`'s `model_args`; stock's defaults stand in for absent keys.

        Raises:
            ModelFileError: a value is missing or makes no sense.
        """
        audio_limit = read_size(args, "gpt_max_audio_tokens", 605)
        sizes = cls(
            num_layers=read_size(args, "gpt_layers", 30),
            model_dim=read_size(args, "gpt_n_model_channels", 1024),
            num_heads=read_size(args, "gpt_n_heads", 16),
            num_text_tokens=num_text_tokens,
            num_audio_tokens=read_size(args, "gpt_num_audio_tokens", 8194),
            start_text_token=read_size(args, "gpt_start_text_token"),
            stop_text_token=read_size(args, "gpt_stop_text_token"),
            start_audio_token=read_size(args, "gpt_start_audio_token", 8192),
            stop_audio_token=read_size(args, "gpt_stop_audio_token", 8193),
            # stock refuses a text of gpt_max_text_tokens, and the table has two positions more
            max_text_tokens=read_size(args, "gpt_max_text_tokens", 402) - 1,
            max_audio_tokens=audio_limit - _UNUSED_AUDIO_TOKENS,
        )
        sizes.check_or_raise()
        return sizes

    def check_or_raise(self) -> None:
        """Raises ModelFileError where the sizes do not fit each other."""
        fits = {
            "gpt_layers": self.num_layers > 0,
            "gpt_n_heads": self.num_heads > 0 and self.model_dim % self.num_heads == 0,
            "gpt_n_model_channels": self.model_dim > 0,
            "gpt_max_text_tokens": self.max_text_tokens > 0,
            "gpt_max_audio_tokens": self.max_audio_tokens > 0,
            "gpt_start_text_token": self.start_text_token < self.num_text_tokens,
            "gpt_stop_text_token": self.stop_text_token < self.num_text_tokens,
            "gpt_start_audio_token": self.start_audio_token < self.num_audio_tokens,
            "gpt_stop_audio_token": self.stop_audio_token < self.num_audio_tokens,
        }
        wrong = [key for key, value in fits.items() if not value]
        if wrong:
            raise ModelFileError(
                f"config.json: {', '.join(wrong)} can't be right for this model ({self}). "
                "Take the config.json that came with the weights."
            )


@dataclass(frozen=True)
class LayerWeights:
    """One transformer block; norms are (weight, bias)."""

    attn_norm: tuple[torch.Tensor, torch.Tensor]
    qkv: Linear
    out: Linear
    mlp_norm: tuple[torch.Tensor, torch.Tensor]
    up: Linear
    down: Linear

    @classmethod
    def read(cls, reader: WeightReader, dim: int) -> LayerWeights:
        """Takes the block below the reader's prefix, `gpt.gpt.h.<i>.`."""
        hidden = 4 * dim
        return cls(
            attn_norm=_read_norm(reader, "ln_1", dim),
            qkv=_read_linear(reader, "attn.c_attn", dim, 3 * dim),
            out=_read_linear(reader, "attn.c_proj", dim, dim),
            mlp_norm=_read_norm(reader, "ln_2", dim),
            up=_read_linear(reader, "mlp.c_fc", dim, hidden),
            down=_read_linear(reader, "mlp.c_proj", hidden, dim, lowest=_LEAST_OF_GELU),
        )


@dataclass(frozen=True)
class GptWeights:
    """All that decoding needs; norms are (weight, bias)."""

    sizes: GptSizes
    text_embedding: torch.Tensor
    text_positions: torch.Tensor
    audio_embedding: torch.Tensor
    audio_positions: torch.Tensor
    layers: tuple[LayerWeights, ...]
    last_norm: tuple[torch.Tensor, torch.Tensor]
    latent_norm: tuple[torch.Tensor, torch.Tensor]
    head: Linear

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.text_embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept and computed in."""
        return self.text_embedding.dtype

    @property
    def is_int8(self) -> bool:
        """True where the layers' matrices are of 8-bit whole numbers."""
        return isinstance(self.layers[0].qkv, Int8Linear | NativeLinear)

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, torch.Tensor],
        model_args: Mapping[str, Any],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> GptWeights:
        """Takes the GPT's tensors from a stock state dict and checks every shape.

        Args:
            state: tensors by stock name (`gpt.gpt.h.0.attn.c_attn.weight`, ...).
            model_args: `config.json`'s `model_args`; start and stop text token must be in it.
            dtype: type to keep and compute in; float16 files are cast up to it.
            device: where to keep them.

        Raises:
            ModelFileError: a tensor is missing or of the wrong shape, or a size makes no sense.
        """
        reader = WeightReader(state, "gpt.", dtype, device)
        num_text_tokens = reader.shape("text_embedding.weight")[0]
        sizes = GptSizes.from_args(model_args, num_text_tokens)
        dim, num_codes = sizes.model_dim, sizes.num_audio_tokens
        text_positions = sizes.max_text_tokens + 1 + _EXTRA_TEXT_POSITIONS
        audio_positions = sizes.max_audio_tokens + _UNUSED_AUDIO_TOKENS + _EXTRA_AUDIO_POSITIONS
        return cls(
            sizes=sizes,
            text_embedding=reader.take("text_embedding.weight", num_text_tokens, dim),
            text_positions=reader.take("text_pos_embedding.emb.weight", text_positions, dim),
            audio_embedding=reader.take("mel_embedding.weight", num_codes, dim),
            audio_positions=reader.take("mel_pos_embedding.emb.weight", audio_positions, dim),
            layers=tuple(
                LayerWeights.read(reader.under(f"gpt.h.{index}."), dim)
                for index in range(sizes.num_layers)
            ),
            last_norm=_read_norm(reader, "gpt.ln_f", dim),
            latent_norm=_read_norm(reader, "final_norm", dim),
            head=make_linear(
                reader.take("mel_head.weight", num_codes, dim).t(),
                reader.take("mel_head.bias", num_codes),
            ),
        )


def _read_linear(
    reader: WeightReader, name: str, num_in: int, num_out: int, lowest: float | None = None
) -> Linear:
    """Takes a layer of GPT-2's Conv1D, whose weight is [in, out]; quantised where it is so."""
    bias = reader.take(f"{name}.bias", num_out)
    weight = f"{name}.weight"
    if not reader.has(weight + INT8_VALUES):
        return make_linear(reader.take(weight, num_in, num_out), bias)
    values = reader.take_as(torch.int8, weight + INT8_VALUES, num_out, num_in)
    scales = reader.take(weight + INT8_SCALES, num_out)
    return make_int8_linear(Int8Weight(values, scales), bias, lowest)


def matrix_bytes(state: Mapping[str, torch.Tensor]) -> int:
    """Returns the size of the layers' matrices in float32, which each token reads once."""
    return sum(4 * weight.numel() for name, weight in state.items() if _QUANTISED.fullmatch(name))


def quantise_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns what a stock state needs beside it to be decoded in 8-bit whole numbers.

    The four matrices of every layer; the head stays as it is, for its logits decide.
    """
    parts = {}
    for name, weight in state.items():
        if _QUANTISED.fullmatch(name):
            values, scales = Int8Weight.quantise(weight)
            parts[name + INT8_VALUES], parts[name + INT8_SCALES] = values, scales
    return parts


def _read_norm(reader: WeightReader, name: str, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    return reader.take(f"{name}.weight", dim), reader.take(f"{name}.bias", dim)
