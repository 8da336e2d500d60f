"""Starts real workers with the fake engine, for tests, and looks after what they leave behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from app.messages import Speak
from app.settings import Settings
from app.supervisor.client import EngineClient
from app.supervisor.recovery import Recovery
from app.supervisor.stream import SpeechStream

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parents[1]


def worker_env(**extra: str) -> dict[str, str]:
    """The worker finds `app` and `fake_engine`."""
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}", **extra}


def make_client(
    factory: str = "create",
    *,
    env: dict[str, str] | None = None,
    socket_folder: Path | None = None,
    recovery: Recovery | None = None,
    **settings: Any,
) -> EngineClient:
    settings = {"heartbeat_s": 0.1, "restart_backoff_s": 0.05, **settings}
    return EngineClient(
        Settings(**settings),
        synthesizer=factory if ":" in factory else f"fake_engine:{factory}",
        worker_env=worker_env(**(env or {})),
        socket_folder=socket_folder,
        recovery=recovery,
    )


@asynccontextmanager
async def running(
    factory: str = "create", *, wait: bool = True, **options: Any
) -> AsyncIterator[EngineClient]:
    client = make_client(factory, **options)
    await client.start()
    try:
        if wait:
            await client.wait_until_ready(60)
        yield client
    finally:
        await client.stop(0)


_ids = iter(range(1_000_000))


def speak(client: EngineClient, text: str = "", request_id: str = "") -> SpeechStream:
    request_id = request_id or f"request-{next(_ids)}"
    return client.speak(Speak(id=request_id, text=text, voice="anna", language="en"))


async def collect(stream: SpeechStream) -> bytes:
    return b"".join([audio.pcm async for audio in stream])


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> float:
    """Waits until it holds; returns the seconds that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, "it did not come true in time"
        await asyncio.sleep(0.002)
    return time.monotonic() - started


def is_idle(client: EngineClient) -> bool:
    heartbeat = client.state.heartbeat
    return heartbeat is not None and heartbeat.rows == 0


def num_descriptors() -> int:
    return psutil.Process().num_fds()


_others: set[int] = set()


def remember_others() -> None:
    """Notes which processes other tests have left running: they are nobody's leftover here."""
    _others.clear()
    _others.update(child.pid for child in psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    """Returns the processes that the test at hand has started and that still run."""
    processes = psutil.Process().children(recursive=True)
    return [child for child in processes if child.pid not in _others]


def read_log(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
