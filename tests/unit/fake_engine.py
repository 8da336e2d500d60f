"""A synthesizer without a model, for the plumbing around it; runs in real workers.

A request's text says what happens: `steps=N` (default 3) pieces of audio, each made in a step that
takes `sleep=S` seconds, `kb=N` large; `refuse`, `bug`, `device`, `poison`, `segv`, `abort`,
`freeze`, `hang`, `forget`, `big`; `full` is out of memory but on the CPU.
A canary's sentence is a tone as long as its words take, or silence from a model called `mute`.
The device is $FAKE_DEVICE; models named in $FAKE_MISSING lack a file. What is cancelled or stepped
is written to $FAKE_LOG.
"""

from __future__ import annotations

import array
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from app.devices.place_order import PlaceOrder
from app.errors import DeviceError, InputError, ModelFileError
from app.messages import Audio, DeviceMemory, Done, PrepareVoice, Route, Speak, Verdict, VoiceInfo
from app.models.capacity import choose_capacity
from app.models.footprint import place_of
from app.settings import Settings
from app.text.sentences import sentences_for
from app.worker.loop import Emit

Report = Callable[..., None]
CANARIES = sentences_for(["en"])[1]
OK = Verdict(status="ok", segments=1, retries=0)


@dataclass
class FakeInfo:
    model: str = "fake"
    version: str = "1"
    licence: str = "CC0"
    languages: list[str] = field(default_factory=lambda: ["en"])
    voices: list[VoiceInfo] = field(default_factory=lambda: [VoiceInfo("anna")])
    default_voice: str = "anna"
    sample_rate: int = 24000
    device: str = "cpu"
    device_reason: str = "it is a fake"
    routes: list[Route] = field(default_factory=list)


@dataclass
class Job:
    request: Speak
    emit: Emit
    words: dict[str, str]
    made: int = 0


class FakeEngine:
    def __init__(self, settings: Settings, place: PlaceOrder | None = None) -> None:
        place = place or PlaceOrder()
        self.info = FakeInfo(
            model=settings.default_model,
            device=place.device or os.environ.get("FAKE_DEVICE", "cpu"),
            device_reason=place.reason or f"heartbeat {settings.heartbeat_s:g}",
            routes=[Route("reprobe", str(place.reprobe), "it was asked for")],
        )
        capacity = choose_capacity(settings, place_of(self.info.device), order=place.rows)
        self.info.routes += capacity.routes()
        self._jobs: dict[str, Job] = {}
        self._log = os.environ.get("FAKE_LOG")

    @property
    def num_rows(self) -> int:
        return len(self._jobs)

    num_waiting = 0

    def device_memory(self) -> DeviceMemory | None:
        return None if self.info.device == "cpu" else DeviceMemory(1, 2, 3, 4)

    def stage_peaks(self) -> dict[str, int]:
        return {"load": 5, "decode": 7}

    def warm_up(self) -> None:
        self._note("warm")

    def submit(self, request: Speak, emit: Emit) -> None:
        words = dict(word.partition("=")[::2] for word in request.text.split())
        self._note(f"submit {request.id}")
        if "refuse" in words:
            raise InputError("No.", param="input")
        if "bug" in words:
            raise KeyError("bug")
        if "device" in words:
            raise DeviceError("The device is gone.")
        if "full" in words and self.info.device != "cpu":
            raise DeviceError("No memory is left.", code="out_of_memory")
        if "forget" not in words:
            self._jobs[request.id] = Job(request, emit, words)

    def prepare_voice(self, request: PrepareVoice, emit: Emit) -> None:
        if request.voice == "nobody":
            raise InputError("No such voice.", param="voice")
        emit(Done(id=request.id))

    def cancel(self, request_id: str) -> None:
        if self._jobs.pop(request_id, None):
            self._note(f"cancel {request_id}")

    def step(self) -> bool:
        for request_id in list(self._jobs):
            self._advance(self._jobs[request_id])
        return bool(self._jobs)

    def _advance(self, job: Job) -> None:
        request_id, words = job.request.id, job.words
        self._note(f"step {request_id}")
        time.sleep(float(words.get("sleep", 0)))
        self._go_wrong(words)
        pcm = bytes([job.made % 251]) * (int(words.get("kb", 1)) << 10)
        if job.request.text in CANARIES:
            pcm, words["steps"] = self._canary(), "1"
        job.made += 1
        job.emit(Audio(id=request_id, segment=0, num_segments=1, pcm=pcm, verdict=OK))
        if job.made >= int(words.get("steps", 3)):
            del self._jobs[request_id]
            job.emit(Done(id=request_id, verdict=OK, seed=job.request.seed or 0))

    def _canary(self) -> bytes:
        loud = 0 if self.info.model == "mute" else 9000
        wave = (math.sin(2 * math.pi * 180 * n / 24000) for n in range(58_000))
        return array.array("h", (round(loud * value) for value in wave)).tobytes()

    def _go_wrong(self, words: dict[str, str]) -> None:
        if "poison" in words:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if "grandchild" in words:
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)", "leftover"])
        if "hang" in words:
            time.sleep(3600)
        signals = {"segv": signal.SIGSEGV, "abort": signal.SIGABRT, "freeze": signal.SIGSTOP}
        for word in words.keys() & signals.keys():
            os.kill(os.getpid(), signals[word])

    def _note(self, line: str) -> None:
        if self._log:
            with Path(self._log).open("a") as stream:
                stream.write(f"{line} {time.monotonic()}\n")


def create(settings: Settings, report: Report, place: PlaceOrder) -> FakeEngine:
    if settings.default_model in os.environ.get("FAKE_MISSING", "").split(","):
        raise ModelFileError("model.pth is missing: download the model again.")
    report("loading the fake", os.environ.get("FAKE_DEVICE", "cpu"))
    print("a line on stdout", flush=True)
    return FakeEngine(settings, place)


def create_slowly(settings: Settings, report: Report, place: PlaceOrder) -> FakeEngine:
    report("loading slowly")
    time.sleep(float(os.environ.get("FAKE_LOAD_S", "3600")))
    return FakeEngine(settings)


def miss_a_file(settings: Settings, report: Report, place: PlaceOrder) -> FakeEngine:
    raise ModelFileError("model.pth is missing: download the model again.")


def fail_to_load(settings: Settings, report: Report, place: PlaceOrder) -> FakeEngine:
    raise RuntimeError("out of luck")


def crash_twice(settings: Settings, report: Report, place: PlaceOrder) -> FakeEngine:
    marks = Path(os.environ["FAKE_LOG"])
    crashes = marks.read_text().count("crash") if marks.exists() else 0
    if crashes < 2:
        with marks.open("a") as stream:
            stream.write("crash\n")
        os.abort()
    return FakeEngine(settings)
