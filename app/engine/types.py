"""What goes into the engine and what comes out of it.

Plain values, no behaviour: a model, a voice, a job, the events a job makes. Knows nothing of
requests, text or formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.engine.formats import Formats, uniform_formats
from app.engine.gpt_weights import GptWeights
from app.engine.vocoder_weights import VocoderWeights
from app.errors import InputError

FLOAT32 = uniform_formats(torch.float32)


@dataclass(frozen=True)
class SpeechModel:
    """The weights that speak: never changed after loading, shared by all rows.

    `gpt` writes audio tokens and latents, `vocoder` turns latents into samples; keys and values are
    kept in `cache_dtype` where rows share a pool of them.
    """

    gpt: GptWeights
    vocoder: VocoderWeights
    cache_dtype: torch.dtype = torch.float32

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio that comes out (24000 for XTTS)."""
        return self.vocoder.sizes.output_sample_rate

    @property
    def latent_dim(self) -> int:
        """Width of a latent, and of a voice's `gpt_latents`."""
        return self.gpt.sizes.model_dim

    @property
    def max_text_tokens(self) -> int:
        """Most text tokens of one job, without start and stop (400 for XTTS-v2)."""
        return self.gpt.sizes.max_text_tokens

    @property
    def max_audio_tokens(self) -> int:
        """Most audio tokens of one job, the stop token included (602 for XTTS-v2)."""
        return self.gpt.sizes.max_audio_tokens

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, torch.Tensor],
        model_args: Mapping[str, Any],
        *,
        decoder_sizes: Mapping[str, Any] | None = None,
        start_text_token: int | None = None,
        stop_text_token: int | None = None,
        formats: Formats = FLOAT32,
        device: torch.device | str = "cpu",
    ) -> SpeechModel:
        """Makes a model from a stock state dict (`gpt.*`, `hifigan_decoder.*`).

        Args:
            state: tensors by stock name; more than needed is fine. Matrices whose quantised parts
                (`quantise_state`) are there too are taken in 8 bits.
            model_args: `config.json`'s `model_args`.
            decoder_sizes: `decoder.json`, where the bundle has one; stock sizes otherwise.
            start_text_token: id of `[START]` in `vocab.json`; wins over `model_args`.
            stop_text_token: id of `[STOP]` in `vocab.json`; wins over `model_args`.
            formats: what the weights are kept and computed in.
            device: where they are kept.

        Raises:
            ModelFileError: a tensor is missing or has the wrong shape, or a size makes no sense.
        """
        tokens = {
            "gpt_start_text_token": start_text_token,
            "gpt_stop_text_token": stop_text_token,
        }
        given = {key: value for key, value in tokens.items() if value is not None}
        args = {**model_args, **given}
        return cls(
            gpt=GptWeights.from_state_dict(state, args, formats.gpt_dtype, device),
            vocoder=VocoderWeights.from_state_dict(
                state, args, decoder_sizes, formats.vocoder, device
            ),
            cache_dtype=formats.cache,
        )


@dataclass(frozen=True, eq=False)
class Conditioning:
    """A voice, as the model hears it.

    `gpt_latents`: [1, P, D] float32, P positions before the text (32 for XTTS-v2).
    `speaker_embedding`: [1, E, 1] float32, what the vocoder is told (E = 512).
    """

    gpt_latents: torch.Tensor
    speaker_embedding: torch.Tensor


@dataclass(frozen=True)
class DecodeOptions:
    """How tokens are drawn. The values are those of `Xtts.inference` in coqui-tts 0.28.

    Raises:
        InputError: a value out of its range; `param` names it.
    """

    temperature: float = 0.75
    """0.01 to 100; divides the logits. Not used when greedy."""

    top_k: int = 50
    """Draw only from the k likeliest tokens; 0: from all. Not used when greedy."""

    top_p: float = 0.85
    """Draw only from the likeliest tokens that hold this much probability. Not used when greedy."""

    repetition_penalty: float = 10.0
    """0.01 to 100; weakens tokens that were drawn before, 1 leaves them as they are."""

    guidance_scale: float = 1.0
    """0 to 100; above 1 the text counts for more, at twice the work. 1: as the model has it."""

    greedy: bool = False
    """Always the likeliest token."""

    seed: int = 0
    """Start of this job's own random numbers; the same seed gives the same speech."""

    max_tokens: int | None = None
    """Most audio tokens; None, or more than the model can: the model's own limit."""

    def __post_init__(self) -> None:
        # beyond these, scores leave the range of float32 and become no numbers
        _check_range("temperature", self.temperature, 0.01, 100)
        _check_range("repetition_penalty", self.repetition_penalty, 0.01, 100)
        _check_range("guidance_scale", self.guidance_scale, 0, 100)
        _check_range("top_k", self.top_k, 0, None)
        _check_range("top_p", self.top_p, 0, 1)
        _check_range("seed", self.seed, 0, 2**63 - 1)
        if self.max_tokens is not None:
            _check_range("max_tokens", self.max_tokens, 1, None)


@dataclass(frozen=True, eq=False)
class SegmentJob:
    """One segment of text to speak in one voice.

    `id` is the caller's and unique among the jobs a scheduler holds. `token_ids` are text tokens
    without start and stop. `speed` is 1 for the model's own pace, 2 for twice as fast; the pitch
    stays. `priority` is the segment's index in its request: 0 goes first. Segments of one `group`
    (a request) share their turns.
    """

    id: str
    token_ids: tuple[int, ...]
    conditioning: Conditioning
    options: DecodeOptions
    speed: float = 1.0
    priority: int = 0
    group: str = ""


@dataclass(frozen=True, eq=False)
class AudioChunk:
    """The next samples of a job, in order: float32 [S] in -1..1 at the model's sample rate."""

    job_id: str
    samples: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SegmentDone:
    """A job's last event: all its audio has been handed out, its row is free.

    `tokens` are the audio tokens drawn, the stop token included. `stopped` is False where the
    limit on tokens ended it, so its end is probably cut off or a run-on.
    """

    job_id: str
    tokens: tuple[int, ...]
    stopped: bool


@dataclass(frozen=True, eq=False)
class SegmentFailed:
    """A job's last event where the model gave numbers that are none (NaN, infinite)."""

    job_id: str
    message: str


Event = AudioChunk | SegmentDone | SegmentFailed


def _check_range(name: str, value: float, low: float, high: float | None) -> None:
    """Raises InputError where `value` is not within both limits (NaN is within none)."""
    if not low <= value <= (float("inf") if high is None else high):
        limits = f"at least {low}" if high is None else f"between {low} and {high}"
        raise InputError(f"{name}={value} is out of range: it must be {limits}.", param=name)
