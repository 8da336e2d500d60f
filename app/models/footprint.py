"""How much memory a model will take, told from its files before anything is loaded.

Pure arithmetic over `config.json`, `decoder.json` and the size of the weights. Knows no device
and needs no torch; what a worker measures refines it.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from app.devices.hardware import processor_flags
from app.errors import ModelFileError
from app.models.bundles import Bundle
from app.models.config import ModelConfig, read_config
from app.models.manifest import DecoderSizes
from app.settings import Settings

#: Where a model's memory lies.
Place = Literal["gpu", "cpu"]

#: A CUDA context with the libraries' workspaces: 0.3 to 0.6 GB, by card and driver.
CONTEXT_BYTES = 600 << 20
#: A Python process with torch, tokenizer and codecs, before any weights (0.5 GB measured).
PROCESS_BYTES = 512 << 20
#: The conditioning of one voice and the prefill of one row, at XTTS-v2's shape: 12 s of reference
#: make activations of 1024 mel frames; what a worker measures takes the place of this.
WORK_BYTES = 256 << 20
#: Caches of keys and values grow in blocks of so many positions.
_BLOCK_POSITIONS = 128
#: Positions of a row beside text and audio: 32 of the voice, two of start and stop.
_VOICE_POSITIONS = 34
#: Activations of the vocoder's widest layer that live at the same time: input, output, residual,
#: and the sum over its kernels.
_LIVE_ACTIVATIONS = 4
#: What a chunk's window is wider than the chunk on a GPU (`app.engine.batch_vocoder`): 15 frames on
#: either side and up to 31 more, 4.35 of which make a token, at XTTS-v2's shape.
_WINDOW_CONTEXT_TOKENS = 14
#: On the CPU a GPT whose matrices are this large in float32 is kept in 8 bits, where the processor
#: has the instructions (`app.engine.formats`, which needs torch and can't be asked here).
INT8_FROM_BYTES = 100_000_000
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
#: Stock stores float32.
_FILE_BYTES_PER_WEIGHT = 4
_LONGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class Footprint:
    """Memory of one model in bytes: loaded, for each row of its batch, and for passing work."""

    loaded_bytes: int
    row_bytes: int
    work_bytes: int

    def total(self, rows: int) -> int:
        """Returns what it takes with so many rows under way."""
        return self.loaded_bytes + self.work_bytes + rows * self.row_bytes

    def rows_within(self, room_bytes: int, most: int) -> int:
        """Returns how many rows, up to `most`, there is room for; 0 where it does not fit."""
        left = room_bytes - self.loaded_bytes - self.work_bytes
        return max(0, min(most, left // self.row_bytes))

    def refined(self, loaded_bytes: int | None, peak_bytes: int | None, rows: int) -> Footprint:
        """Returns the footprint with what a worker measured in the place of what was estimated.

        Args:
            loaded_bytes: memory after the first sentence, with nothing under way.
            peak_bytes: the most it ever held; above the estimate it raises the passing work.
            rows: the most rows that there were.
        """
        better = self if loaded_bytes is None else replace(self, loaded_bytes=loaded_bytes)
        beyond = (peak_bytes or 0) - better.total(rows)
        return better if beyond <= 0 else replace(better, work_bytes=better.work_bytes + beyond)


def estimate_footprint(bundle: Bundle, settings: Settings, place: Place) -> Footprint:
    """Estimates a model's memory from the sizes in its files.

    With b bytes for each number (`bytes_per_number`), P weights, L layers of width W, and T text
    and A audio tokens at most:

        loaded = process or context + P * b, less 3/4 of the GPT's matrices where they are in 8 bits
        row    = L * 2 * W * ceil128(34 + T + A) * b + 4 * max over stages(channels * samples) * b
        work   = 256 MB

    The first part of a row are its keys and values, reserved in blocks of 128 positions; the second
    the vocoder's widest layer over one chunk of CHUNK_TOKENS, on a GPU with its neighbours. Where
    the model's own sampling is guided, there are two of the first. It is an upper bound but for
    what a worker holds beyond its weights, which `Footprint.refined` adds once it was measured.

    Args:
        bundle: its config and weights are looked at; weights are not read.
        settings: PRECISION and CHUNK_TOKENS.
        place: `gpu` or `cpu`.

    Raises:
        ModelFileError: a file of it is missing or makes no sense.
    """
    config = read_config(bundle.config, bundle.decoder)
    width = bytes_per_number(settings, place)
    try:
        row = _caches_of_row(bundle) * _cache_bytes(config, width)
        context = _WINDOW_CONTEXT_TOKENS if place == "gpu" else 0
        row += _vocoder_bytes(config, settings.chunk_tokens + context, width)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{bundle.config} has a size that is none: {error}.") from error
    ground = CONTEXT_BYTES if place == "gpu" else PROCESS_BYTES
    weights = num_weights(bundle.weights) * width
    matrices = _matrix_bytes(config)
    if place == "cpu" and _takes_int8(settings, matrices):
        weights = max(matrices // 4, weights - matrices * 3 // 4)
    return Footprint(ground + weights, row, WORK_BYTES)


def place_of(device: str) -> Place:
    """Returns the place of a device as torch names it."""
    return "cpu" if device.startswith("cpu") else "gpu"


def bytes_per_number(settings: Settings, place: Place) -> int:
    """Returns the bytes of a weight and of a cached number.

    On a GPU 2 unless PRECISION=float32 asks for 4, for `auto` takes half precision wherever the
    probe saw it right; on the CPU 4.
    """
    if place == "gpu":
        return 4 if settings.precision == "float32" else 2
    return 2 if settings.precision in ("bfloat16", "float16") else 4


def num_weights(path: Path) -> int:
    """Returns how many numbers a weights file holds.

    Exact for safetensors, whose header lists them; of a pickle, which may not be opened for this,
    its size over the 4 bytes of float32 that stock stores.

    Raises:
        ModelFileError: the file can't be read, or is cut short.
    """
    try:
        if path.suffix != ".safetensors":
            return path.stat().st_size // _FILE_BYTES_PER_WEIGHT
        with path.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(size, _LONGEST_HEADER)))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        return sum(math.prod(entry["shape"]) for entry in tensors)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelFileError(f"{path} can't be read ({error}): fetch it again.") from error


def _matrix_bytes(config: ModelConfig) -> int:
    """Returns the size in float32 of the matrices of the GPT's layers, 12 W^2 numbers each."""
    layers = int(config.model_args.get("gpt_layers", 30))
    return layers * 12 * config.gpt_width**2 * _FILE_BYTES_PER_WEIGHT


def _takes_int8(settings: Settings, matrix_bytes: int) -> bool:
    if not processor_flags() & _INT8_FLAGS:
        return False
    is_large = matrix_bytes >= INT8_FROM_BYTES
    return settings.precision == "int8" or (settings.precision == "auto" and is_large)


def _caches_of_row(bundle: Bundle) -> int:
    """Returns 2 where what a model says is guided, so that each row is decoded twice; else 1."""
    is_guided = bundle.manifest is not None and bundle.manifest.sampling.guidance_scale != 1
    return 2 if is_guided else 1


def _cache_bytes(config: ModelConfig, width: int) -> int:
    """Returns the keys and values of one row that is as long as a row can be."""
    args = config.model_args
    text = int(args.get("gpt_max_text_tokens", 402)) + 2
    audio = int(args.get("gpt_max_audio_tokens", 605)) + 2
    positions = _VOICE_POSITIONS + text + audio
    blocks = -(-positions // _BLOCK_POSITIONS)
    layers = int(args.get("gpt_layers", 30))
    return layers * 2 * config.gpt_width * blocks * _BLOCK_POSITIONS * width


def _vocoder_bytes(config: ModelConfig, chunk_tokens: int, width: int) -> int:
    """Returns the activations of the vocoder over one chunk, at its widest layer.

    A token is `gpt_code_stride_len` samples at the input's rate, `output_hop_length` of which make
    one frame of the vocoder's input (HiFi-GAN halves the channels at each stage).
    """
    args = config.model_args
    sizes: Mapping[str, Any] = config.decoder_args or {}
    defaults = DecoderSizes()
    channels = int(
        sizes.get("upsample_initial_channel_decoder", defaults.upsample_initial_channel_decoder)
    )
    rates = sizes.get("upsample_rates_decoder", defaults.upsample_rates_decoder)
    resampled = int(args.get("output_sample_rate", 24000)) / int(
        args.get("input_sample_rate", 22050)
    )
    stride, hop = (
        int(args.get("gpt_code_stride_len", 1024)),
        int(args.get("output_hop_length", 256)),
    )
    samples = chunk_tokens * stride / hop * resampled
    widest = channels * samples
    for rate in rates:
        channels, samples = channels // 2, samples * int(rate)
        widest = max(widest, channels * samples)
    return math.ceil(_LIVE_ACTIVATIONS * widest * width)
