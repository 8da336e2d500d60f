"""From a parsed request to what the worker is asked for.

Knows limits, names and defaults; nothing of how the answer is sent.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from typing import Literal

from app.api.context import Context
from app.api.names import voice_for
from app.api.schemas import AudioFormat, SpeechRequest
from app.errors import TooLargeError
from app.messages import Ready, Sampling, Speak
from app.settings import Settings
from app.text.clean import clean_text
from app.text.languages import resolve_language

AUTO = "auto"
#: Seeds drawn here stay below this, so that every client's JSON keeps them exactly.
_SEED_BOUND = 2**31

#: `whole`: checked before it leaves; `audio` and `sse`: as it is made.
Delivery = Literal["whole", "audio", "sse"]


@dataclass(frozen=True)
class SpeechOrder:
    """One request, checked and complete.

    Attributes:
        speak: what the worker is asked.
        audio_format: container of the answer.
        delivery: how the answer leaves.
        sample_rate: of the samples, in Hz.
        seed: what the draw starts from; drawn here if the request named none.
    """

    speak: Speak
    audio_format: AudioFormat
    delivery: Delivery
    sample_rate: int
    seed: int


def model_for(wanted: SpeechRequest, context: Context) -> str:
    """Checks what can be checked without the model, and returns its name.

    Raises:
        TooLargeError: the text is too long.
        InputError: nothing in the text can be spoken.
        NotFoundError: unknown model.
    """
    _check_text(wanted.input, context.settings)
    return context.registry.resolve(wanted.model)


def speech_order(wanted: SpeechRequest, ready: Ready, context: Context) -> SpeechOrder:
    """Checks a request against its model, and fills in what it left out.

    Raises:
        InputError: the model lacks the language.
        NotFoundError: unknown voice.
    """
    settings = context.settings
    name = wanted.voice if isinstance(wanted.voice, str) else None
    seed = secrets.randbelow(_SEED_BOUND) if wanted.seed is None else wanted.seed
    speak = Speak(
        id=uuid.uuid4().hex,
        text=wanted.input,
        voice=voice_for(name, context, ready),
        language=_language_for(wanted.language or settings.default_language, ready),
        speed=1.0 if wanted.speed is None else float(wanted.speed),
        seed=seed,
        sampling=_sampling_of(wanted),
        live=wanted.stream_format is not None,
    )
    return SpeechOrder(
        speak=speak,
        audio_format=wanted.response_format or "mp3",
        delivery=wanted.stream_format or "whole",
        sample_rate=ready.sample_rate,
        seed=seed,
    )


def _check_text(text: str, settings: Settings) -> None:
    if len(text) > settings.max_input_chars:
        raise TooLargeError(
            f"The field 'input' has {len(text)} characters and the limit is "
            f"{settings.max_input_chars}; split the text, or raise MAX_INPUT_CHARS on the server.",
            param="input",
        )
    clean_text(text)


def _language_for(wanted: str, ready: Ready) -> str:
    return AUTO if wanted.lower() == AUTO else resolve_language(wanted, ready.languages)


def _sampling_of(wanted: SpeechRequest) -> Sampling:
    """Temperature 0 means the likeliest token, for a division by it has no other sense."""
    greedy = wanted.temperature == 0
    return Sampling(
        temperature=None if greedy or wanted.temperature is None else float(wanted.temperature),
        top_k=wanted.top_k,
        top_p=wanted.top_p,
        repetition_penalty=wanted.repetition_penalty,
        guidance_scale=wanted.guidance_scale,
        greedy=greedy,
    )
