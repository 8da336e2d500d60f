"""Gives an alias to another model, and back: only after that model has spoken.

The new model is loaded beside the old one and says a sentence, which is checked here as well as in
its worker. Whatever goes wrong, the alias stays where it was. Requests under way end on the model
they began with, for each holds its own.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from app.audio.pcm import from_s16
from app.audio.validate import check_segment
from app.errors import (
    AudioVoiceError,
    ConflictError,
    DoesNotFitError,
    InputError,
    NotFoundError,
    OutputError,
    UnavailableError,
)
from app.messages import Audio, Done, Ready, Speak
from app.models.registry import ModelRegistry
from app.text.sentences import sentences_for

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_log = logging.getLogger(__name__)


class Stream(Protocol):
    """The canary's audio."""

    @property
    def done(self) -> Done | None:
        """The worker's last word, when the iteration has ended."""

    def __aiter__(self) -> AsyncIterator[Audio]:
        """Yields the audio; raises what the request ended in."""


class Lease(Protocol):
    """A loaded model that is held."""

    @property
    def ready(self) -> Ready:
        """What its worker said of it."""

    def speak(self, request: Speak) -> Stream:
        """Starts a request."""


class Pool(Protocol):
    """Where models are loaded."""

    def lease(self, name: str, wait_s: float | None = None) -> AbstractAsyncContextManager[Lease]:
        """Loads a model and holds it; raises an `AudioVoiceError` where it can't."""


@dataclass(frozen=True)
class Canary:
    """The sentence that a model said before it took an alias, and how that went.

    `took_s` is from asking for it to its last audio, the load of the model apart.
    """

    text: str
    language: str
    voice: str
    audio_s: float
    took_s: float
    retries: int


@dataclass(frozen=True)
class Handed:
    """A hand-over that went well.

    `before` is the model that the alias meant until then. `model` and `canary` are None where an
    alias is gone because it was unknown before.
    """

    alias: str
    model: str | None
    before: str | None
    load_s: float = 0.0
    canary: Canary | None = None


class Handover:
    """Promotes models to aliases, one at a time.

    Args:
        pool: where models are loaded.
        registry: which models and aliases there are.
        wait_s: longest wait for the model's load; WORKER_START_TIMEOUT_S.
    """

    def __init__(self, pool: Pool, registry: ModelRegistry, wait_s: float) -> None:
        self._pool = pool
        self._registry = registry
        self._wait_s = wait_s
        self._one_at_a_time = asyncio.Lock()

    async def promote(self, alias: str, model: str, voice: str = "") -> Handed:
        """Lets an alias mean a model from now on, after the model has spoken.

        Args:
            alias: `default`, `tts-1` or any other name that is no model's.
            model: a model, or another alias of it.
            voice: who says the sentence; the model's default voice if empty.

        Raises:
            InputError: the alias can't be a name.
            NotFoundError: there is no such model.
            ConflictError: a model is called like the alias, or the model can't be used; the message
                says why, and the alias stays.
            DoesNotFitError, UnavailableError: there is no room for it, or not now.
        """
        if not _ALIAS.fullmatch(alias):
            raise InputError(
                "The alias must be 1 to 64 letters, digits or any of . _ - with a letter or digit "
                "first.",
                param="alias",
            )
        if alias in self._registry.bundles():
            raise ConflictError(
                f"'{alias}' is the name of a model and can't be an alias; choose another.",
                param="alias",
            )
        async with self._one_at_a_time:
            return await self._hand_over(alias, model, voice)

    async def roll_back(self, alias: str) -> Handed:
        """Gives an alias back to the model that had it before, after that one has spoken.

        Raises:
            NotFoundError: the alias was never handed over.
            ConflictError: the earlier model can't be used; the alias stays.
            DoesNotFitError, UnavailableError: there is no room for it, or not now.
        """
        async with self._one_at_a_time:
            handed = self._registry.handed.read().get(alias)
            if handed is None:
                raise NotFoundError(
                    f"The alias '{alias[:64]}' was never handed over: there is nothing to go back "
                    "to; see GET /v1/aliases.",
                    param="alias",
                    code="nothing_to_roll_back",
                )
            before = handed.previous[-1] if handed.previous else ""
            model = before or self._registry.settings_target(alias)
            if model is None:
                self._registry.handed.roll_back(alias)
                return Handed(alias, None, handed.model)
            return await self._hand_over(alias, model, "", is_way_back=True)

    async def _hand_over(
        self, alias: str, model: str, voice: str, *, is_way_back: bool = False
    ) -> Handed:
        targets = {target.alias: target.model for target in self._registry.aliases()}
        started = time.monotonic()
        try:
            model = self._registry.find(self._registry.resolve(model)).name
            async with self._pool.lease(model, self._wait_s) as lease:
                load_s = time.monotonic() - started
                canary = await _try_out(lease, voice)
        except (DoesNotFitError, NotFoundError):
            raise
        except AudioVoiceError as error:
            raise _refused(alias, model, error) from error
        if is_way_back:
            self._registry.handed.roll_back(alias)
        else:
            self._registry.handed.point(alias, model)
        _log.warning("%s means %s from now on; before: %s", alias, model, targets.get(alias))
        return Handed(alias, model, targets.get(alias), load_s, canary)


async def _try_out(lease: Lease, voice: str) -> Canary:
    """Lets a model say a sentence and checks what comes.

    Raises:
        OutputError: what came is not the sentence's speech.
        AudioVoiceError: nothing came.
    """
    ready = lease.ready
    voice = voice or ready.default_voice
    if not voice:
        raise InputError(f"{ready.model} brings no voice: name an uploaded one.", param="voice")
    language, (text, *_) = sentences_for(ready.languages)
    request = Speak(id=uuid.uuid4().hex, text=text, voice=voice, language=language, seed=1)
    started = time.monotonic()
    stream = lease.speak(request)
    pcm = b"".join([audio.pcm async for audio in stream])
    took_s = time.monotonic() - started
    samples = from_s16(pcm)
    check = check_segment(samples, ready.sample_rate, spoken=text, language=language)
    if not check.ok:
        raise OutputError(f"its canary sentence did not pass: {check.explanation}")
    verdict = stream.done.verdict if stream.done else None
    return Canary(
        text=text,
        language=language,
        voice=voice,
        audio_s=len(samples) / ready.sample_rate,
        took_s=took_s,
        retries=verdict.retries if verdict else 0,
    )


def _refused(alias: str, model: str, error: AudioVoiceError) -> AudioVoiceError:
    message = f"The alias '{alias}' stays as it is, for '{model}' can't take it: {error.message}"
    if isinstance(error, UnavailableError) and error.retry_after_s is not None:
        return UnavailableError(message, code=error.code, retry_after_s=error.retry_after_s)
    if isinstance(error, InputError) and error.param == "voice":
        return InputError(message, param="voice")
    return ConflictError(message, param="model", code="canary_failed")
