"""`python -m app check`: the first thing to run on a new machine.

Tries the device, loads the model as the service does, speaks three sentences, and judges the
files that come of it. Knows nothing that a client of the engine could not know.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import time
import uuid
import wave
from dataclasses import replace
from pathlib import Path

from app.audio.encode import encode_whole
from app.audio.pcm import from_s16
from app.audio.validate import check_segment
from app.commands.check_result import CheckResult, Sentence, result_lines
from app.commands.narrator import narrate, wait_telling
from app.commands.terminal import say
from app.commands.training_cost import estimate_training
from app.devices.background import run_in_daemon
from app.devices.probe import probe
from app.errors import AudioVoiceError, InputError, NotFoundError
from app.files import write_atomic
from app.messages import Audio, Ready, Speak
from app.models.bundles import find_bundle
from app.models.registry import ModelRegistry
from app.settings import Settings
from app.supervisor.client import EngineClient
from app.text.sentences import sentences_for

EXIT_VALID = 0
EXIT_INVALID = 1

_OUT = Path("outputs/check")
_MAX_CRASHES = 2
#: Signs of life come fast here, for the memory they tell of.
_HEARTBEAT_S = 0.2
_BYTES_PER_KB = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last line")
    parser.add_argument("--out", type=Path, default=_OUT, help=f"folder for the files ({_OUT})")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Checks the machine and prints what was found.

    Returns:
        0 when every output is valid, 1 when one is not.

    Raises:
        AudioVoiceError: the device, or the model, can't be used at all.
    """
    if settings.log_level != "debug":
        logging.getLogger("app").setLevel(logging.CRITICAL)
    registry = ModelRegistry(settings)
    chosen = registry.settings_for(registry.default)
    result = asyncio.run(_check(chosen, arguments.out))
    result = replace(result, training=asyncio.run(estimate_training(chosen)))
    for line in result_lines(result):
        say(line)
    if arguments.json:
        say(json.dumps(result.to_dict()))
    return EXIT_VALID if result.is_valid else EXIT_INVALID


async def _check(settings: Settings, out: Path) -> CheckResult:
    device = "cpu" if settings.force_cpu else settings.device
    report = await wait_telling(
        run_in_daemon(lambda: probe(settings, device), "probe"),
        "trying out the device, once for this machine",
    )
    source = _source_of_model(settings)
    engine = EngineClient(settings.model_copy(update={"heartbeat_s": _HEARTBEAT_S}))
    started = time.monotonic()
    await engine.start()
    try:
        narrator = asyncio.create_task(narrate(engine, silent_s=0.5))
        ready = await engine.wait_until_ready(max_crashes=_MAX_CRASHES)
        start_s = time.monotonic() - started
        narrator.cancel()
        loaded = _resident_bytes(engine.state.pid, "VmRSS")
        sentences = await _speak_all(engine, ready, settings, out)
        beat = engine.state.heartbeat
        memory = beat.device_memory if beat else None
        return CheckResult(
            verdict=report.verdict,
            verdict_detail=report.detail,
            device=ready.device,
            device_reason=ready.device_reason,
            routes={r.name: f"{r.choice}: {r.reason}" for r in ready.routes if r.name != "device"},
            model=ready.model,
            version=ready.version,
            model_source=source,
            load_s=round(ready.load_s, 3),
            warmup_s=round(ready.warmup_s, 3),
            start_s=round(start_s, 3),
            loaded_bytes=loaded,
            peak_bytes=_peak_bytes(engine),
            device_peak_bytes=memory.peak_bytes if memory else None,
            sentences=sentences,
        )
    finally:
        await engine.stop()


def _source_of_model(settings: Settings) -> str:
    """Says whether the model is there already; what else is wrong with it the worker will say."""
    try:
        return f"found in {find_bundle(settings.default_model, settings).folder}"
    except NotFoundError as error:
        if error.code != "model_not_downloaded":
            raise
        return "downloaded now"


async def _speak_all(
    engine: EngineClient, ready: Ready, settings: Settings, out: Path
) -> tuple[Sentence, ...]:
    voice = settings.default_voice or ready.default_voice
    if not voice:
        raise InputError(
            f"The model {ready.model} brings no voice: upload one and name it in DEFAULT_VOICE.",
            param="voice",
        )
    language, texts = sentences_for(ready.languages)
    sentences = []
    for number, text in enumerate(texts, start=1):
        request = Speak(
            id=uuid.uuid4().hex, text=text, voice=voice, language=language, seed=number, live=True
        )
        path = out / f"{number}.wav"
        speaking = _speak(engine, request, path, ready.sample_rate)
        sentences.append(
            await wait_telling(speaking, f"speaking sentence {number} of {len(texts)}")
        )
    return tuple(sentences)


async def _speak(engine: EngineClient, request: Speak, path: Path, sample_rate: int) -> Sentence:
    """Speaks one sentence into a file and judges what the file holds."""
    started = time.monotonic()
    first_s, parts, fault = 0.0, list[Audio](), ""
    try:
        async for part in engine.speak(request):
            first_s = first_s or time.monotonic() - started
            parts.append(part)
    except AudioVoiceError as error:
        fault = error.message
    took_s = time.monotonic() - started
    pcm = b"".join(part.pcm for part in parts)
    write_atomic(path, encode_whole("wav", sample_rate, pcm))
    audio_s = len(from_s16(pcm)) / sample_rate
    return Sentence(
        file=str(path),
        text=request.text,
        audio_s=round(audio_s, 3),
        first_audio_s=round(first_s, 3),
        took_s=round(took_s, 3),
        fault=fault or _fault_of(path, request),
    )


def _fault_of(path: Path, request: Speak) -> str:
    """Reads a file back and says what is wrong with it; empty for nothing."""
    with wave.open(str(path)) as file:
        samples = from_s16(file.readframes(file.getnframes()))
        rate = file.getframerate()
    check = check_segment(samples, rate, spoken=request.text, language=request.language)
    return check.explanation


def _peak_bytes(engine: EngineClient) -> int | None:
    """Returns the most memory the worker ever held. It sets the kernel's mark back for each stage
    that it measures, so the stages count as well.
    """
    marks = [_resident_bytes(engine.state.pid, "VmHWM")]
    beat = engine.state.heartbeat
    if beat and not beat.device_memory:
        marks += beat.stages.values()
    known = [mark for mark in marks if mark is not None]
    return max(known, default=None)


def _resident_bytes(pid: int | None, field: str) -> int | None:
    """Returns the worker's memory now (VmRSS) or at most (VmHWM); None where /proc has no word."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * _BYTES_PER_KB if found else None
