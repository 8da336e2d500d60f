"""A model with its worker, as the pool keeps it; and the hold that a request has on one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.messages import Ready, Speak
from app.models.footprint import CONTEXT_BYTES, Footprint, Place, place_of
from app.supervisor.client import EngineClient
from app.supervisor.room import Tenant
from app.supervisor.state import EngineState
from app.supervisor.stream import SpeechStream


@dataclass(frozen=True)
class ModelStatus:
    """One model that has a worker, for those who look on.

    `rows` is the most segments side by side, with the reason: what was counted for them, then what
    the worker took. `need_bytes` is what it is counted
    with, `used_bytes` and `peak_bytes` what its worker measured; `stages` the most memory while
    each stage of the work went on. `leases` are the requests that hold it.
    """

    name: str
    is_default: bool
    state: EngineState
    place: Place
    leases: int
    idle_s: float
    rows: int
    rows_reason: str
    need_bytes: int
    used_bytes: int | None
    peak_bytes: int | None
    stages: Mapping[str, int]


@dataclass
class LoadedModel:
    """A model, its worker, and who holds it. Times are seconds of the monotonic clock."""

    name: str
    client: EngineClient
    place: Place
    need: Footprint
    rows: int
    rows_reason: str
    leases: int = 0
    used_at: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.monotonic)
    ready: Ready | None = None
    loaded_bytes: int | None = None
    used_bytes: int | None = None
    peak_bytes: int | None = None

    @property
    def is_failed(self) -> bool:
        """True when the worker is gone for good."""
        return self.client.state.phase == "failed"

    def measure(self) -> None:
        """Takes in what the worker last said of its memory."""
        state = self.client.state
        self.ready = state.ready or self.ready
        if state.ready is None or state.heartbeat is None:
            return
        for route in state.ready.routes:
            if route.name == "rows":
                self.rows, self.rows_reason = int(route.choice), route.reason
        if place_of(state.ready.device) != self.place:  # it moved: what was measured is no more
            self.place = place_of(state.ready.device)
            self.loaded_bytes = self.peak_bytes = None
        beat, memory = state.heartbeat, state.heartbeat.device_memory
        if memory is not None:
            used, peak = memory.used_bytes + CONTEXT_BYTES, memory.peak_bytes + CONTEXT_BYTES
        else:
            used = peak = beat.rss_bytes
        self.used_bytes = used
        self.peak_bytes = max(self.peak_bytes or 0, peak)
        if self.loaded_bytes is None and not beat.rows:
            self.loaded_bytes = used
        self.need = self.need.refined(self.loaded_bytes, self.peak_bytes, self.rows)

    def as_tenant(self, default: str) -> Tenant:
        """Returns it as whoever looks for room sees it."""
        is_idle = not self.leases
        need = 0 if self.is_failed else self.need.total(self.rows)
        return Tenant(self.name, need, is_idle, self.name == default, self.used_at)

    def status(self, default: str) -> ModelStatus:
        """Returns it as those who look on see it."""
        self.measure()
        beat = self.client.state.heartbeat
        return ModelStatus(
            name=self.name,
            is_default=self.name == default,
            state=self.client.state,
            place=self.place,
            leases=self.leases,
            idle_s=0.0 if self.leases else time.monotonic() - self.used_at,
            rows=self.rows,
            rows_reason=self.rows_reason,
            need_bytes=self.need.total(self.rows),
            used_bytes=self.used_bytes,
            peak_bytes=self.peak_bytes,
            stages=dict(beat.stages) if beat else {},
        )


class ModelLease:
    """A model that is ready, and stays loaded while it is held.

    Args:
        model: its name.
        client: its worker's.
        ready: what the worker said of it.
    """

    def __init__(self, model: str, client: EngineClient, ready: Ready) -> None:
        self.model = model
        self.ready = ready
        self._client = client

    @property
    def state(self) -> EngineState:
        """How the worker is now."""
        return self._client.state

    def speak(self, request: Speak) -> SpeechStream:
        """Starts a request; errors come from the iteration."""
        return self._client.speak(request)

    async def prepare_voice(self, voice: str) -> None:
        """Computes and caches a stored voice's conditioning.

        Raises:
            AudioVoiceError: the voice can't be used, or the worker is not there.
        """
        await self._client.prepare_voice(voice)
