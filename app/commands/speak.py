"""`python -m app speak`: one text into one file, by the same worker that serves."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.audio.encode import encode_whole
from app.audio.formats import FORMATS, find_format
from app.audio.pcm import BYTES_PER_SAMPLE
from app.commands.narrator import narrate
from app.commands.terminal import note, say
from app.errors import InputError, UnavailableError
from app.files import write_atomic
from app.messages import MAX_SPEED, MIN_SPEED, Audio, Done, Ready, Speak
from app.models.bundles import BUILTIN, builtin_folder
from app.models.manifest import read_manifest
from app.models.registry import ModelRegistry
from app.settings import Settings
from app.supervisor.client import EngineClient
from app.voices.catalog import resolve_voice
from app.voices.store import VoiceStore

#: Ends of the worker before it was ready after which no further start is waited for.
_MAX_CRASHES = 2


@dataclass(frozen=True)
class Speech:
    """What one request gave."""

    pcm: bytes
    done: Done
    ready: Ready
    voice: str
    seconds: float

    @property
    def duration_s(self) -> float:
        """Length of the audio in seconds."""
        return len(self.pcm) / BYTES_PER_SAMPLE / self.ready.sample_rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("text", help="what to say; - reads it from standard input")
    parser.add_argument("--out", type=Path, default=Path("speech.wav"), help="file to write")
    parser.add_argument(
        "--model", default="", help="a model's name or alias; the default if left out"
    )
    parser.add_argument("--voice", default="", help="a voice's name; the model's own if left out")
    parser.add_argument("--language", default="", help="a code such as pt; found out if left out")
    parser.add_argument("--speed", type=float, default=1.0, help="2 is twice as fast, same pitch")
    parser.add_argument("--seed", type=int, help="the same seed gives the same speech")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last line")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Speaks and writes the file whole or not at all.

    Raises:
        AudioVoiceError: bad input, no place for the file, or the model can't be loaded.
    """
    if settings.log_level != "debug":
        # What goes wrong is told once, in one sentence, by the command itself.
        logging.getLogger("app").setLevel(logging.CRITICAL)
    out: Path = arguments.out
    audio_format = _format_of(out)
    with _naming(out):
        _check_place(out)
    if not MIN_SPEED <= arguments.speed <= MAX_SPEED:
        raise InputError(
            f"--speed {arguments.speed:g}: must be from {MIN_SPEED:g} to {MAX_SPEED:g}.",
            param="speed",
        )
    registry = ModelRegistry(settings)
    settings = registry.settings_for(registry.resolve(arguments.model))
    text = sys.stdin.read() if arguments.text == "-" else arguments.text
    if not text.strip():
        raise InputError('TEXT is empty: write TEXT="what to say".', param="input")
    speech = asyncio.run(_speak(text, arguments, settings))
    encoded = encode_whole(audio_format, speech.ready.sample_rate, speech.pcm)
    with _naming(out):
        write_atomic(out, encoded)
    _tell(out, speech, as_json=arguments.json)
    return 0


def _format_of(out: Path) -> str:
    """Returns the format that the file's ending names."""
    name = out.suffix.lstrip(".").lower()
    if name not in FORMATS:
        raise InputError(
            f"OUT={out}: the ending must be one of {', '.join(FORMATS)}.", param="response_format"
        )
    return find_format(name).name


def _check_place(out: Path) -> None:
    """Makes the file's folder, so that what stands in the way is told before the work.

    Raises:
        OSError: nothing can be written there.
    """
    if out.parent.is_file():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def _naming(out: Path) -> Iterator[None]:
    """Turns an error of the file system into one sentence with the file's name."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"OUT={out} can't be written ({reason}): name another file.", param="out"
        ) from error


async def _speak(text: str, arguments: argparse.Namespace, settings: Settings) -> Speech:
    engine = EngineClient(settings)
    await engine.start()
    try:
        narrator = asyncio.create_task(narrate(engine))
        ready = await engine.wait_until_ready(max_crashes=_MAX_CRASHES)
        narrator.cancel()
        voice = _choose_voice(arguments.voice or settings.default_voice, ready, settings)
        started = time.monotonic()
        stream = engine.speak(
            Speak(
                id=uuid.uuid4().hex,
                text=text.encode("utf-8", "replace").decode("utf-8"),
                voice=voice,
                language=arguments.language or settings.default_language,
                speed=arguments.speed,
                seed=arguments.seed,
            )
        )
        parts: list[Audio] = [part async for part in stream]
        if stream.done is None:
            raise UnavailableError("The worker ended the speech without a word; try again.")
        return Speech(
            pcm=b"".join(part.pcm for part in parts),
            done=stream.done,
            ready=ready,
            voice=voice,
            seconds=time.monotonic() - started,
        )
    finally:
        await engine.stop()


def _choose_voice(wanted: str, ready: Ready, settings: Settings) -> str:
    stored = [record.name for record in VoiceStore(settings.voices_dir, settings.max_voices).list()]
    return resolve_voice(
        wanted or ready.default_voice,
        bundle_voices=[voice.name for voice in ready.voices],
        stored=stored,
        aliases=settings.voice_aliases,
        default=settings.default_voice or ready.default_voice,
    )


def _tell(out: Path, speech: Speech, *, as_json: bool) -> None:
    done, ready = speech.done, speech.ready
    status = done.verdict.status if done.verdict else "unchecked"
    say(
        f"{out}: {speech.duration_s:.1f} s of speech in {speech.seconds:.1f} s "
        f"(voice {speech.voice}, model {ready.model} {ready.version}, language {done.language}, "
        f"seed {done.seed}, checks: {status})"
    )
    if ready.model == BUILTIN:
        for line in read_manifest(builtin_folder()).notes:
            note(f"note: {line}")
    if as_json:
        say(
            json.dumps(
                {
                    "out": str(out),
                    "duration_s": round(speech.duration_s, 3),
                    "seconds": round(speech.seconds, 3),
                    "voice": speech.voice,
                    "model": ready.model,
                    "version": ready.version,
                    "language": done.language,
                    "seed": done.seed,
                    "verdict": status,
                    "device": ready.device,
                }
            )
        )
