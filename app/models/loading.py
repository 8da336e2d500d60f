"""Makes a model that can speak out of a bundle's files.

The one place where weights, vocabulary, voices and settings of a model meet. Never imports coqui:
that takes seconds, and stock files load without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from app.engine.formats import Formats
from app.engine.gpt_weights import matrix_bytes
from app.engine.types import FLOAT32, Conditioning, SpeechModel
from app.errors import ModelFileError
from app.models.bundles import Bundle
from app.models.conditioning import Conditioner
from app.models.config import ModelConfig, read_config, read_json
from app.models.int8_cache import int8_parts
from app.models.manifest import SamplingDefaults, VoiceEntry, verify_files_or_raise
from app.models.mapped import release_pages
from app.models.mel import PowerSpectrum, stft_power
from app.models.stored_voices import read_bundle_voices
from app.models.weights import State, read_state
from app.text.tokenizer import TextTokenizer

#: Chooses formats by the size of the GPT's matrices in float32, in bytes.
FormatChoice = Callable[[int], Formats]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory, and what it says about itself. Shared by all requests, never changed.

    `voices` came with the bundle; `voice_entries` describes those that a manifest describes.
    `max_segment_chars` is the longest text it learnt to say in one go, where the manifest says so.
    `default_voice` is empty where the bundle has no voice at all.
    """

    name: str
    version: str
    licence: str
    languages: tuple[str, ...]
    speech: SpeechModel
    tokenizer: TextTokenizer
    conditioner: Conditioner
    voices: dict[str, Conditioning]
    default_voice: str
    sampling: SamplingDefaults
    load_s: float
    voice_entries: dict[str, VoiceEntry] = field(default_factory=dict)
    max_segment_chars: int | None = None
    formats: Formats = FLOAT32

    @property
    def sample_rate(self) -> int:
        """Samples per second of the speech made, in Hz."""
        return self.speech.sample_rate

    @property
    def max_text_tokens(self) -> int:
        """Most text tokens of one segment, without start and stop."""
        return self.speech.max_text_tokens


def load_model(
    bundle: Bundle,
    device: torch.device | str = "cpu",
    *,
    formats: FormatChoice | None = None,
    cache_dir: Path | None = None,
    power: PowerSpectrum = stft_power,
) -> LoadedModel:
    """Loads a model: files checked, weights mapped where their type allows, voices read.

    Args:
        bundle: from `find_bundle`. With a manifest, every file is compared with its hash.
        device: where the model runs.
        formats: chooses, by the size of the GPT's matrices in float32, in bytes, what GPT and
            vocoder compute in; float32 if None. The conditioning stays float32.
        cache_dir: where 8-bit weights are kept for the next start; nowhere if None.
        power: how spectra of reference clips are made.

    Raises:
        ModelFileError: a file is missing, cut short, refused, or does not fit the others.
    """
    started = time.monotonic()
    if bundle.manifest is not None:
        verify_files_or_raise(bundle.folder, bundle.manifest)
    config = read_config(bundle.config, bundle.decoder)
    with _naming(bundle.vocab):
        tokenizer = TextTokenizer.from_file(bundle.vocab, bundle.front_end)
    state = read_state(bundle.weights)
    speech, chosen = _make_speech(bundle, config, state, tokenizer, device, formats, cache_dir)
    conditioner = Conditioner.from_state_dict(state, config, bundle.weights, device, power)
    voices = read_bundle_voices(bundle, config, device)
    release_pages(bundle.weights)
    return LoadedModel(
        name=bundle.name,
        version=bundle.version,
        licence=bundle.licence,
        languages=_common_languages(bundle, tokenizer),
        speech=speech,
        tokenizer=tokenizer,
        conditioner=conditioner,
        voices=voices,
        default_voice=_default_voice(bundle, voices),
        sampling=bundle.manifest.sampling if bundle.manifest else config.sampling,
        load_s=time.monotonic() - started,
        voice_entries=bundle.manifest.voices if bundle.manifest else {},
        max_segment_chars=bundle.manifest.max_segment_chars if bundle.manifest else None,
        formats=chosen,
    )


def _make_speech(
    bundle: Bundle,
    config: ModelConfig,
    state: State,
    tokenizer: TextTokenizer,
    device: torch.device | str,
    choose: FormatChoice | None,
    cache_dir: Path | None,
) -> tuple[SpeechModel, Formats]:
    start, stop = _special_tokens(bundle.vocab)
    with _naming(bundle.weights):
        formats = choose(matrix_bytes(state)) if choose else FLOAT32
        if formats.gpt == "int8":
            state = {**state, **int8_parts(state, bundle.weights, cache_dir)}
        speech = SpeechModel.from_state_dict(
            state,
            config.model_args,
            decoder_sizes=config.decoder_args,
            start_text_token=start,
            stop_text_token=stop,
            formats=formats,
            device=device,
        )
    embedded = speech.gpt.sizes.num_text_tokens
    if tokenizer.num_tokens > embedded:
        raise ModelFileError(
            f"{bundle.vocab} has {tokenizer.num_tokens} tokens and {bundle.weights} only "
            f"{embedded}: take the vocab.json that came with these weights."
        )
    return speech, formats


def _special_tokens(vocab_path: Path) -> tuple[int, int]:
    """Returns the ids of [START] and [STOP], which XTTS-v2's config.json leaves to the vocabulary.

    Raises:
        ModelFileError: the vocabulary has no such tokens.
    """
    data = read_json(vocab_path)
    model: Any = data.get("model") or {}
    ids = dict(model.get("vocab") or {})
    ids.update({token["content"]: token["id"] for token in data.get("added_tokens") or []})
    if "[START]" not in ids or "[STOP]" not in ids:
        raise ModelFileError(
            f"{vocab_path} has no [START] or [STOP] token: it is not the vocabulary of an XTTS "
            "model; take the one that came with the weights."
        )
    return int(ids["[START]"]), int(ids["[STOP]"])


def _common_languages(bundle: Bundle, tokenizer: TextTokenizer) -> tuple[str, ...]:
    common = tuple(code for code in bundle.languages if code in tokenizer.languages)
    if not common:
        raise ModelFileError(
            f"{bundle.vocab} has no token for any of the model's languages "
            f"({', '.join(bundle.languages)}): take the vocab.json that came with the weights."
        )
    return common


def _default_voice(bundle: Bundle, voices: dict[str, Conditioning]) -> str:
    if bundle.manifest is None:
        return next(iter(voices), "")
    missing = sorted(set(bundle.manifest.voices) - set(voices))
    if missing:
        raise ModelFileError(
            f"{bundle.folder} lacks the voices {', '.join(missing)} that its manifest names: "
            "copy or fetch the bundle again."
        )
    return bundle.manifest.default_voice


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the file's path before errors of code that sees tensors and values only."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error.message}", param=error.param) from error
