"""A real service whose workers can be broken by a word in a file (`tests/faults`)."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import threading
import time
import wave
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import uvicorn

from app.api.factory import create_app
from app.devices.benches import Benches
from app.devices.place_order import RowsOrder
from app.settings import Settings
from app.supervisor.client import EngineClient
from app.supervisor.pool import EnginePool
from app.supervisor.recovery import Recovery

RUN = Path(__file__).resolve().parents[1] / "faults" / "run.py"
STALL_S = 3.0
#: Longest wait for a worker that has to import torch on a busy machine, with a probe before it.
READY_S = 90.0


@dataclass
class FaultyService:
    """A service in this process; its workers are processes of their own."""

    url: str
    folder: Path
    engine: EnginePool
    later_s: float = 0.0
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=READY_S))

    def arm(self, name: str, fault: str) -> None:
        (self.folder / name).write_text(fault, encoding="utf-8")

    def disarm(self) -> None:
        for name in ("stft", "step", "gpu"):
            (self.folder / name).unlink(missing_ok=True)

    def speak(self, text: str = "The wind rose.", **fields: Any) -> httpx.Response:
        body = {"input": text, "response_format": "wav", "seed": 7, **fields}
        return self.client.post(f"{self.url}/v1/audio/speech", json=body)

    def upload(self, name: str) -> httpx.Response:
        return self.client.post(
            f"{self.url}/v1/audio/voices",
            data={"name": name, "consent": "made by a computer"},
            files={"audio_sample": ("clip.wav", _clip(name), "audio/wav")},
        )

    def system(self) -> dict[str, Any]:
        told: dict[str, Any] = self.client.get(f"{self.url}/v1/system").json()
        return told

    def route(self, name: str) -> str:
        return next(r["choice"] for r in self.system()["routes"] if r["name"] == name)

    def wait_until_ready(self) -> None:
        end_s = time.monotonic() + READY_S
        while self.client.get(f"{self.url}/ready").status_code != 200:
            assert time.monotonic() < end_s, self.system()
            time.sleep(0.1)

    @contextmanager
    def new_worker(self) -> Iterator[int]:
        """Gives the worker's pid; waits at the end of the block until another is ready."""
        pid = self.engine.state.pid
        assert pid is not None
        yield pid
        end_s = time.monotonic() + READY_S
        while self.engine.state.pid == pid:
            assert time.monotonic() < end_s, self.system()
            time.sleep(0.02)
        self.wait_until_ready()

    def renew_worker(self) -> None:
        """Kills the worker, which is no fault of the stack, and waits for the next."""
        with self.new_worker() as pid:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def faulty_service(folder: Path) -> Iterator[FaultyService]:
    """Serves until the block ends; nothing of it may be left then."""
    others = psutil.Process().children(recursive=True)  # a server that other tests share
    service: list[FaultyService] = []
    settings = Settings(
        _env_file=None,
        voices_dir=folder / "voices",
        cache_dir=folder / "cache",
        heartbeat_s=0.2,
        stall_timeout_s=STALL_S,
        restart_backoff_s=0,
        log_level="info",
    )
    recovery = Recovery(settings, lambda: time.monotonic() + (service[0].later_s if service else 0))
    command = [sys.executable, str(RUN), f"armed:{folder}", "app.worker.process"]

    def make_engine(for_model: Settings, _benches: Benches, _rows: RowsOrder) -> EngineClient:
        return EngineClient(for_model, worker_command=command, recovery=recovery)

    engine = EnginePool(settings, make_engine=make_engine)
    config = uvicorn.Config(create_app(settings, engine), port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        service.append(FaultyService(f"http://127.0.0.1:{port}", folder, engine))
        service[0].wait_until_ready()
        yield service[0]
    finally:
        server.should_exit = True
        thread.join(timeout=60)
    service[0].client.close()
    assert not thread.is_alive()
    assert psutil.Process().children(recursive=True) == others


def _clip(name: str) -> bytes:
    """A vowel of three seconds, of another pitch for every name: what is computed is cached."""
    pitch_hz = 100 + zlib.crc32(name.encode()) % 100
    at_s = np.arange(3 * 22050) / 22050
    wave_form = sum(np.sin(2 * np.pi * pitch_hz * n * at_s) / n for n in range(1, 12)) * 0.2
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes((wave_form * 32767 * (0.6 + 0.4 * np.sin(20 * at_s))).astype("<i2"))
    return out.getvalue()
