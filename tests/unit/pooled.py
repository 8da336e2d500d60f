"""Pools of real workers that run the fake engine, over models that are files and nothing more."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from supervised import worker_env

from app.devices.benches import Benches
from app.devices.place_order import RowsOrder
from app.messages import Speak
from app.models.bundles import builtin_folder
from app.models.registry import ModelRegistry
from app.settings import Settings
from app.supervisor.client import EngineClient
from app.supervisor.loaded import ModelLease, ModelStatus
from app.supervisor.pool import EnginePool
from app.supervisor.recovery import Recovery


def make_model(folder: Path, num_bytes: int = 4000) -> Path:
    """Writes what the registry takes for a stock model; its weights are a hole of that size."""
    folder.mkdir(parents=True)
    for name in ("config.json", "decoder.json", "vocab.json"):
        (folder / name).write_bytes((builtin_folder() / name).read_bytes())
    with (folder / "model.pth").open("wb") as stream:
        stream.truncate(num_bytes)
    return folder


def pool_settings(tmp_path: Path, **overrides: Any) -> Settings:
    fields = {
        "models_dir": tmp_path / "models",
        "voices_dir": tmp_path / "voices",
        "cache_dir": tmp_path / "cache",
        "heartbeat_s": 0.1,
        "restart_backoff_s": 0.05,
        "device": "cpu",
    }
    return Settings(_env_file=None, **{**fields, **overrides})


def make_pool(
    settings: Settings,
    factory: str = "create",
    env: dict[str, str] | None = None,
    registry: ModelRegistry | None = None,
) -> EnginePool:
    def make_engine(for_model: Settings, benches: Benches, rows: RowsOrder) -> EngineClient:
        return EngineClient(
            for_model,
            synthesizer=f"fake_engine:{factory}",
            worker_env=worker_env(**(env or {})),
            recovery=Recovery(for_model, shared=benches, rows=rows),
        )

    return EnginePool(settings, registry, make_engine)


@asynccontextmanager
async def running_pool(settings: Settings, **options: Any) -> AsyncIterator[EnginePool]:
    pool = make_pool(settings, **options)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop(0)


async def say(lease: ModelLease, text: str = "") -> bytes:
    request = Speak(id=uuid.uuid4().hex, text=text, voice="anna", language="en")
    return b"".join([audio.pcm async for audio in lease.speak(request)])


def status_of(pool: EnginePool, name: str) -> ModelStatus | None:
    return next((model for model in pool.models if model.name == name), None)


def names_of(pool: EnginePool) -> set[str]:
    return {model.name for model in pool.models}
