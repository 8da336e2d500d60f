"""An engine that follows a script, for what a real one does not do on demand: fail, stall, wait.

The audio is a tone whose pitch depends on the seed, so that whose audio it is can be told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from app.devices.benches import BenchedDevice
from app.errors import AudioVoiceError
from app.messages import Audio, Done, Heartbeat, Ready, Route, Speak, Verdict, VoiceInfo
from app.supervisor.budget import Budget
from app.supervisor.loaded import ModelStatus
from app.supervisor.refusals import ready_or_raise
from app.supervisor.state import EngineState

SAMPLE_RATE = 24_000
VERDICT = Verdict(status="ok", segments=1, retries=0)


def ready_message() -> Ready:
    return Ready(
        protocol=1,
        model="builtin",
        version="1",
        licence="CC0-1.0",
        languages=["en", "pt", "zh-cn"],
        voices=[VoiceInfo("anna", ["en"], "a calm voice"), VoiceInfo("bert")],
        default_voice="anna",
        sample_rate=SAMPLE_RATE,
        device="cpu",
        device_reason="asked for",
        routes=[Route("device", "cpu", "asked for")],
        load_s=1.0,
        warmup_s=0.5,
    )


def tone(seed: int, num_samples: int) -> bytes:
    at_s = np.arange(num_samples) / SAMPLE_RATE
    wave = 0.3 * np.sin(2 * np.pi * (200 + seed % 400) * at_s)
    return (wave * 32767).astype("<i2").tobytes()


@dataclass
class ScriptedState:
    phase: str = "ready"
    reason: str = ""
    ready: Ready | None = field(default_factory=ready_message)
    heartbeat: Heartbeat | None = None
    restarts: int = 0
    pid: int | None = None
    load_s: float | None = None
    benched: tuple[BenchedDevice, ...] = ()
    retry_after_s: float = 1.0


@dataclass
class Script:
    """What every request meets."""

    num_segments: int = 1
    chunks_per_segment: int = 1
    chunk_s: float = 0.25
    #: wait before each chunk
    pause_s: float = 0.0
    #: the chunk that never comes, counted over the whole request
    stall_at: int | None = None
    #: the chunk at which the error comes, counted over the whole request
    fail_at: int | None = None
    error: Exception | None = None
    verdict: Verdict = VERDICT


class ScriptedStream:
    def __init__(self, engine: ScriptedEngine, request: Speak) -> None:
        self._engine = engine
        self._request = request
        self._chunk = 0
        self._closing = asyncio.Event()
        self.done: Done | None = None

    def __aiter__(self) -> ScriptedStream:
        return self

    async def __anext__(self) -> Audio:
        script = self._engine.script
        await asyncio.sleep(script.pause_s)
        await self._engine.gate.wait()
        if script.stall_at == self._chunk:
            await self._closing.wait()
            raise StopAsyncIteration
        if script.fail_at == self._chunk and script.error is not None:
            raise script.error
        if self._chunk == script.num_segments * script.chunks_per_segment:
            self.done = Done(
                id=self._request.id,
                verdict=script.verdict,
                text_tokens=7,
                audio_tokens=21,
                language="en" if self._request.language == "auto" else self._request.language,
                seed=self._request.seed or 0,
            )
            raise StopAsyncIteration
        audio = Audio(
            id=self._request.id,
            segment=self._chunk // script.chunks_per_segment,
            num_segments=script.num_segments,
            pcm=tone(self._request.seed or 0, int(script.chunk_s * SAMPLE_RATE)),
            verdict=script.verdict,
        )
        self._chunk += 1
        return audio

    async def aclose(self) -> None:
        if not self._closing.is_set() and self.done is None:
            self._engine.cancelled_s[self._request.id] = time.monotonic()
        self._closing.set()


class ScriptedEngine:
    """Every model there is, and the lease of each of them, in one."""

    model = "builtin"

    def __init__(self) -> None:
        self.script = Script()
        self.state = ScriptedState()
        self.spoken: list[Speak] = []
        self.leased: list[str] = []
        self.budgets: tuple[Budget, ...] = ()
        self.cancelled_s: dict[str, float] = {}
        self.prepared: list[str] = []
        self.refusal: AudioVoiceError | None = None
        self.num_rows = 16
        self.running = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False

    @property
    def num_restarts(self) -> int:
        return self.state.restarts

    @property
    def models(self) -> tuple[ModelStatus, ...]:
        beat = self.state.heartbeat
        return (
            ModelStatus(
                name=self.model,
                is_default=True,
                state=cast(EngineState, self.state),
                place="cpu",
                leases=0,
                idle_s=0.0,
                rows=self.num_rows,
                rows_reason="MAX_BATCH_ROWS",
                need_bytes=10**9,
                used_bytes=None,
                peak_bytes=None,
                stages=dict(beat.stages) if beat else {},
            ),
        )

    @property
    def ready(self) -> Ready:
        return ready_or_raise(self.state)

    @asynccontextmanager
    async def lease(self, name: str, wait_s: float | None = None) -> AsyncIterator[ScriptedEngine]:
        self.leased.append(name)
        assert self.ready
        yield self

    def speak(self, request: Speak) -> ScriptedStream:
        self.spoken.append(request)
        return ScriptedStream(self, request)

    async def prepare_voice(self, voice: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.prepared.append(voice)
