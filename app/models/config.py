"""Coqui's `config.json` (and our `decoder.json`) as small typed values, read without coqui.

Field names and defaults are those of `XttsArgs`, `XttsAudioConfig` and `XttsConfig` in coqui-tts
0.28 (TTS/tts/configs/xtts_config.py). Fields that only training needs are ignored. Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from app.errors import ModelFileError
from app.models.manifest import SamplingDefaults

FrontEnd = Literal["letters", "phonemes"]

_STOCK_LANGUAGES = (
    *("en", "es", "fr", "de", "it", "pt", "pl", "tr", "ru"),
    *("nl", "cs", "ar", "zh-cn", "hu", "ko", "ja", "hi"),
)


@dataclass(frozen=True)
class ReferenceLengths:
    """How much of a reference clip is listened to; all in seconds.

    `total_s` of audio in chunks of `chunk_s` make the GPT's latents; `max_s` is kept of the clip
    at all. `normalise` scales the clip to a peak of 0.75 first.
    """

    total_s: int = 12
    chunk_s: int = 4
    max_s: int = 10
    normalise: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """What the rest of the program needs of `config.json` and `decoder.json`.

    `model_args` and `decoder_args` are as the files have them, for the engine, which knows and
    checks their keys; `decoder_args` is None where the decoder has stock's sizes. `front_end` is
    the one key of ours: checkpoints have no manifest to say it (stock passes over unknown keys).
    """

    path: Path
    model_args: Mapping[str, Any]
    decoder_args: Mapping[str, Any] | None
    gpt_width: int
    gpt_heads: int
    speaker_dim: int
    uses_perceiver: bool
    languages: tuple[str, ...]
    sampling: SamplingDefaults
    reference: ReferenceLengths
    front_end: FrontEnd = "letters"


def read_config(config_path: Path, decoder_path: Path | None = None) -> ModelConfig:
    """Reads coqui's `config.json`, and `decoder.json` where the decoder has other sizes.

    Raises:
        ModelFileError: a file is missing, no JSON, of another model than XTTS, or a value does
            not fit.
    """
    data = read_json(config_path)
    if data.get("model", "xtts") != "xtts" or not isinstance(data.get("model_args"), dict):
        raise ModelFileError(
            f"{config_path} is not the config of an XTTS model: it has no model_args for xtts."
        )
    decoder_args = read_json(decoder_path) if decoder_path else None
    try:
        return _build(config_path, data, decoder_args)
    except (TypeError, ValueError) as error:
        raise ModelFileError(
            f"{config_path} has a value that does not fit: {error}; fetch the file again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ModelFileError: the file is missing, cut short, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFileError(
            f"{path} can't be read ({error.strerror}); it belongs beside the weights."
        ) from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise ModelFileError(
            f"{path} is no JSON ({error}); it may be cut short: fetch it again."
        ) from error
    if not isinstance(data, dict):
        raise ModelFileError(f"{path} holds no JSON object; fetch it again.")
    return data


def _build(
    path: Path, data: Mapping[str, Any], decoder_args: Mapping[str, Any] | None
) -> ModelConfig:
    args: Mapping[str, Any] = data["model_args"]
    return ModelConfig(
        path=path,
        model_args=args,
        decoder_args=decoder_args,
        gpt_width=int(args.get("gpt_n_model_channels", 1024)),
        gpt_heads=int(args.get("gpt_n_heads", 16)),
        speaker_dim=int(args.get("d_vector_dim", 512)),
        uses_perceiver=bool(args.get("gpt_use_perceiver_resampler", False)),
        languages=tuple(data.get("languages") or _STOCK_LANGUAGES),
        sampling=_sampling(data),
        reference=_reference(data),
        front_end=_front_end(data),
    )


def _front_end(data: Mapping[str, Any]) -> FrontEnd:
    name = data.get("front_end", "letters")
    if name == "letters":
        return "letters"
    if name == "phonemes":
        return "phonemes"
    raise ValueError(f"front_end is {name!r} and must be letters or phonemes")


def _sampling(data: Mapping[str, Any]) -> SamplingDefaults:
    return SamplingDefaults(
        temperature=data.get("temperature", 0.85),
        top_k=data.get("top_k", 50),
        top_p=data.get("top_p", 0.85),
        repetition_penalty=data.get("repetition_penalty", 2.0),
    )


def _reference(data: Mapping[str, Any]) -> ReferenceLengths:
    lengths = ReferenceLengths(
        total_s=int(data.get("gpt_cond_len", 12)),
        chunk_s=int(data.get("gpt_cond_chunk_len", 4)),
        max_s=int(data.get("max_ref_len", 10)),
        normalise=bool(data.get("sound_norm_refs", False)),
    )
    if lengths.chunk_s < 1 or lengths.max_s < 1:
        raise ValueError("gpt_cond_chunk_len and max_ref_len must be at least 1 s")
    return lengths
