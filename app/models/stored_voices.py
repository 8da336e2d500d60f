"""Voices that come with a model: our `voices/<name>.safetensors` and coqui's speakers_xtts.pth.

Knows the two file formats and checks shapes; computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from app.engine.types import Conditioning
from app.errors import ModelFileError
from app.files import atomic_path
from app.models.bundles import Bundle
from app.models.config import ModelConfig
from app.models.weights import read_pickle, read_state

GPT_LATENTS = "gpt_latents"
SPEAKER_EMBEDDING = "speaker_embedding"
# what coqui calls the first of the two (xtts_manager.py, `Xtts.synthesize`)
_COQUI_GPT_LATENTS = "gpt_cond_latent"


class _Shapes(NamedTuple):
    """What a voice must fit."""

    gpt_width: int
    speaker_dim: int


def read_bundle_voices(
    bundle: Bundle, config: ModelConfig, device: torch.device | str = "cpu"
) -> dict[str, Conditioning]:
    """Reads all voices of a bundle, by name; empty where it has none.

    Raises:
        ModelFileError: a file is damaged, or a voice is of another model's shape.
    """
    voices: dict[str, Conditioning] = {}
    if bundle.speakers is not None:
        shapes = _Shapes(config.gpt_width, config.speaker_dim)
        voices.update(_read_coqui_speakers(bundle.speakers, shapes, device))
    if bundle.voices_dir is not None:
        for path in sorted(bundle.voices_dir.glob("*.safetensors")):
            voices[path.stem] = read_voice(path, config.gpt_width, config.speaker_dim, device)
    return voices


def read_voice(
    path: Path, gpt_width: int, speaker_dim: int, device: torch.device | str = "cpu"
) -> Conditioning:
    """Reads one `<name>.safetensors` for a model of these widths.

    Raises:
        ModelFileError: it is missing, damaged, or of another model's shape.
    """
    shapes = _Shapes(gpt_width, speaker_dim)
    return _to_conditioning(path, path.stem, read_state(path), GPT_LATENTS, shapes, device)


def write_voice(path: Path, voice: Conditioning, about: dict[str, str] | None = None) -> None:
    """Writes a voice that `read_voice` reads back, whole or not at all.

    Args:
        path: the file, ending in `.safetensors`.
        voice: any device, any float type; kept as float32.
        about: text kept in the file's header.
    """
    tensors = {
        GPT_LATENTS: voice.gpt_latents.detach().cpu().float().contiguous(),
        SPEAKER_EMBEDDING: voice.speaker_embedding.detach().cpu().float().contiguous(),
    }
    with atomic_path(path) as part:
        save_file(tensors, part, metadata=about)


def _read_coqui_speakers(
    path: Path, shapes: _Shapes, device: torch.device | str
) -> dict[str, Conditioning]:
    return {
        str(name): _to_conditioning(path, name, entry, _COQUI_GPT_LATENTS, shapes, device)
        for name, entry in read_pickle(path).items()
    }


def _to_conditioning(
    path: Path,
    name: str,
    entry: Any,
    latents_key: str,
    shapes: _Shapes,
    device: torch.device | str,
) -> Conditioning:
    fields = entry if isinstance(entry, Mapping) else {}
    latents = _tensor_of_shape(fields.get(latents_key), (1, None, shapes.gpt_width))
    embedding = _tensor_of_shape(fields.get(SPEAKER_EMBEDDING), (1, shapes.speaker_dim, 1))
    if latents is None or embedding is None:
        raise ModelFileError(
            f"{path}: voice {name!r} needs {latents_key} [1, any, {shapes.gpt_width}] and "
            f"{SPEAKER_EMBEDDING} [1, {shapes.speaker_dim}, 1]; it belongs to another model."
        )
    return Conditioning(latents.to(device, torch.float32), embedding.to(device, torch.float32))


def _tensor_of_shape(value: Any, shape: tuple[int | None, ...]) -> Tensor | None:
    if not isinstance(value, Tensor) or value.ndim != len(shape):
        return None
    fits = all(want in (None, have) for want, have in zip(shape, value.shape, strict=True))
    return value if fits else None
