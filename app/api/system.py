"""What the service runs on: devices, what was found of them, what follows, and memory.

Reads the engine's state and remembered probes; starts nothing, and needs no torch.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field

from app import __version__
from app.api.auth import KEY_NEEDED
from app.api.context import ContextDep
from app.api.openapi import errors_of
from app.api.presence import in_thread
from app.api.queue import queue_length
from app.api.schemas import Benched
from app.devices.hardware import host_memory, platform_name
from app.devices.probe import PROBING, cached_report
from app.settings import Settings
from app.supervisor.loaded import ModelStatus

router = APIRouter(tags=["status"])


class RouteChoice(BaseModel):
    """A choice that was made by itself."""

    name: str = Field(
        description="`device`, `precision`, `spectra`, `layers`, `threads`, `rows` or `caches`."
    )
    choice: str
    reason: str


class WorkerDeviceMemory(BaseModel):
    """Memory of the default model's GPU."""

    used_bytes: int = Field(description="Held by the worker now.")
    peak_bytes: int = Field(description="Most it ever held.")
    free_bytes: int
    total_bytes: int


class WorkerStatus(BaseModel):
    """One model that has a worker."""

    model: str
    is_default: bool
    status: str = Field(description="Phase of its worker: starting, ready, restarting, …")
    reason: str
    device: str | None
    pid: int | None
    restarts: int
    load_s: float | None = Field(description="From the worker's start until it could speak.")
    leases: int = Field(description="Requests that hold it now.")
    idle_s: float
    rows: int = Field(description="Most segments side by side.")
    rows_reason: str
    need_bytes: int = Field(description="Memory it is counted with: estimated, then as measured.")
    used_bytes: int | None
    peak_bytes: int | None
    stage_peak_bytes: dict[str, int] = Field(
        description="Most memory of the worker while a stage of its work went on."
    )

    @classmethod
    def of(cls, model: ModelStatus) -> WorkerStatus:
        """Returns what the pool says of a model, as it goes over the wire."""
        state = model.state
        return cls(
            model=model.name,
            is_default=model.is_default,
            status=state.phase,
            reason=state.reason,
            device=state.ready.device if state.ready else None,
            pid=state.pid,
            restarts=state.restarts,
            load_s=state.load_s,
            leases=model.leases,
            idle_s=round(model.idle_s, 1),
            rows=model.rows,
            rows_reason=model.rows_reason,
            need_bytes=model.need_bytes,
            used_bytes=model.used_bytes,
            peak_bytes=model.peak_bytes,
            stage_peak_bytes=dict(model.stages),
        )


class MemoryBudget(BaseModel):
    """What all models of one place may take together."""

    place: str = Field(description="`gpu` or `cpu`.")
    limit_bytes: int | None
    reason: str


class Queue(BaseModel):
    """Speech requests that are taken at a time; more get a 429."""

    places: int
    reason: str


class Memory(BaseModel):
    """Memory, in bytes; null where it is not known."""

    host_free_bytes: int | None
    host_total_bytes: int | None
    worker_bytes: int | None = Field(description="Resident memory of the default model's worker.")
    device: WorkerDeviceMemory | None = Field(description="Null on the CPU.")
    budgets: list[MemoryBudget]


class Probes(BaseModel):
    """What the last probes of this stack found, as `python -m app probe --json` prints it."""

    is_running: bool = Field(description="The worker is trying the device out just now.")
    reports: list[dict[str, Any]] = Field(
        description="Empty where no probe was needed; `python -m app probe` makes one."
    )


class SystemStatus(BaseModel):
    """Answer of `GET /v1/system`."""

    version: str
    platform: str
    status: str = Field(description="Phase of the engine: starting, ready, restarting, …")
    reason: str
    model: str
    device: str | None
    routes: list[RouteChoice]
    benched: list[Benched]
    restarts: int = Field(description="Times the default model's worker was started again.")
    workers: list[WorkerStatus] = Field(description="One for each loaded model.")
    queue: Queue
    memory: Memory
    probes: Probes


@router.get(
    "/v1/system",
    summary="Devices, routes and memory",
    dependencies=KEY_NEEDED,
    responses=errors_of(401),
)
async def show_system(context: ContextDep) -> SystemStatus:
    """Returns where the work goes and why, what is not used for now, and how much room is left."""
    state = context.engine.state
    ready, beat = state.ready, state.heartbeat
    host_free, host_total = host_memory()
    device = beat.device_memory if beat else None
    return SystemStatus(
        version=__version__,
        platform=platform_name(),
        status=state.phase,
        reason=state.reason,
        model=context.registry.default,
        device=ready.device if ready else None,
        routes=[RouteChoice(**msgspec.structs.asdict(r)) for r in (ready.routes if ready else [])],
        benched=[Benched.of(bench) for bench in state.benched],
        restarts=state.restarts,
        workers=[WorkerStatus.of(model) for model in context.engine.models],
        queue=Queue(**queue_length(context.settings, context.engine.models)._asdict()),
        memory=Memory(
            host_free_bytes=host_free,
            host_total_bytes=host_total,
            worker_bytes=beat.rss_bytes if beat else None,
            device=WorkerDeviceMemory(**msgspec.structs.asdict(device)) if device else None,
            budgets=[
                MemoryBudget(place=b.place, limit_bytes=b.limit_bytes, reason=b.reason)
                for b in context.engine.budgets
            ],
        ),
        probes=Probes(
            is_running=state.reason.startswith(PROBING),
            reports=await in_thread(_remembered, context.settings),
        ),
    )


def _remembered(settings: Settings) -> list[dict[str, Any]]:
    """Returns the remembered reports on the device of the settings and on the CPU."""
    names = dict.fromkeys((settings.device, "cpu"))
    found = (cached_report(settings, name) for name in names)
    return [msgspec.to_builtins(report) for report in found if report is not None]
