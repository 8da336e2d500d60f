"""`manifest.json`: what a bundle of ours says about itself, and the hashes that bind it.

Strict: an unknown or missing field is an error that names it. Knows the file and its rules, not
how weights are read. Needs no torch.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import ModelFileError
from app.files import sha256_of_file

MANIFEST_FILE = "manifest.json"

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class SamplingDefaults(_Strict):
    """How tokens are drawn where the request does not say."""

    temperature: float = Field(gt=0)
    top_k: int = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    repetition_penalty: float = Field(gt=0)
    guidance_scale: float = Field(default=1, ge=1, le=10)
    """Above 1 the text counts for more than it was trained to, at twice the work (guided sampling);
    for models that were also trained without texts. Stock coqui-tts has nothing of the kind."""


class DecoderSizes(_Strict):
    """Sizes of the HiFi-GAN, under the names of `decoder.json`; the defaults are stock's."""

    resblock_type_decoder: Literal["1", "2"] = "1"
    resblock_kernel_sizes_decoder: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes_decoder: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates_decoder: tuple[int, ...] = (8, 8, 2, 2)
    upsample_kernel_sizes_decoder: tuple[int, ...] = (16, 16, 4, 4)
    upsample_initial_channel_decoder: int = 512


class ModelSizes(_Strict):
    """The sizes a reader wants to know at a glance; `config.json` has them all."""

    gpt_layers: int = Field(ge=1)
    gpt_width: int = Field(ge=1)
    gpt_heads: int = Field(ge=1)
    num_text_tokens: int = Field(ge=1)
    num_audio_tokens: int = Field(ge=1)
    num_parameters: int = Field(ge=1)
    decoder: DecoderSizes


class VoiceEntry(_Strict):
    """A voice stored in the bundle as `voices/<name>.safetensors`."""

    description: str
    languages: list[str]
    licence: str


class DataSource(_Strict):
    """Speech that the bundle was trained on."""

    name: str
    source: str
    licence: str
    hours: float = Field(ge=0)


class Manifest(_Strict):
    """The whole of `manifest.json`."""

    format: Literal[1] = 1
    """Version of this layout."""

    name: str
    version: str
    licence: str
    """SPDX name of the licence of the weights."""

    languages: list[str] = Field(min_length=1)
    input_sample_rate: int
    """Rate that reference clips are analysed at, in Hz."""

    output_sample_rate: int
    """Rate of the speech made, in Hz."""

    front_end: Literal["letters", "phonemes"]
    """What the tokenizer is fed with."""

    sizes: ModelSizes
    max_segment_chars: int | None = Field(default=None, ge=20)
    """Longest text, in characters as spoken, that the model was trained to say in one go; longer
    texts are split. None: the language's own limit."""

    default_voice: str
    voices: dict[str, VoiceEntry]
    sampling: SamplingDefaults
    data: list[DataSource]
    made_by: str
    """How the files came about, so that somebody else could make them again."""

    notes: list[str] = []
    scores: dict[str, float] = {}
    """Measured quality; the key says of what, such as `word_error_rate`."""

    files: dict[str, _Sha256]
    """Hex SHA-256 of every other file of the bundle, by its path in the folder."""

    @model_validator(mode="after")
    def _hold_together(self) -> Manifest:
        if self.default_voice not in self.voices:
            raise ValueError(f"default_voice {self.default_voice!r} is not among the voices")
        for name in self.files:
            parts = PurePosixPath(name)
            if parts.is_absolute() or ".." in parts.parts:
                raise ValueError(f"files names {name!r}, which lies outside the bundle")
        return self


def read_manifest(folder: Path) -> Manifest:
    """Reads `manifest.json` of a bundle folder.

    Raises:
        ModelFileError: it is missing, no JSON, or a field is missing, unknown or does not fit.
    """
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error.strerror}.") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'the file'}: {item['msg']}"
            for item in error.errors()
        )
        raise ModelFileError(
            f"{path} is no valid manifest ({faults}); write the bundle again."
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json`, readable by people, into a folder that is not published yet."""
    data = manifest.model_dump(mode="json")
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def hash_files(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file in a bundle folder but the manifest, for its `files`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): sha256_of_file(path)
        for path in paths
        if path.name != MANIFEST_FILE
    }


def verify_files_or_raise(folder: Path, manifest: Manifest) -> None:
    """Compares every file that the manifest names with its hash (about 1 s per GB).

    Raises:
        ModelFileError: a file is missing or differs; all such files are named.
    """
    faults = []
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path} is missing")
        elif sha256_of_file(path) != expected:
            faults.append(f"{path} is not what the manifest says (another SHA-256)")
    if faults:
        raise ModelFileError(f"{'; '.join(faults)}: copy or fetch the bundle again.")
