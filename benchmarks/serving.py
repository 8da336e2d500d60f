"""A server in a process of its own, to put a load on, and what its processes hold in memory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parent.parent
_START_S = 300.0
_STOP_S = 60.0
#: Until a worker's next signs of life have told what a load took.
_NEWS_S = 2.5


@dataclass
class Server:
    """A server that is ready.

    `ready_s` is how long that took, `model` what it speaks with, `precision` in which formats,
    `device` where, `rows` how many segments side by side at most.
    """

    url: str
    model: str
    precision: str
    device: str
    rows: int
    ready_s: float
    process: psutil.Process
    peak_bytes: int = 0

    def memory(self) -> int:
        """Returns the resident bytes of the largest process, which is the engine's worker."""
        family = [self.process, *self.process.children(recursive=True)]
        return max(int(each.memory_info().rss) for each in family)

    @property
    def is_on_gpu(self) -> bool:
        """True where the model runs on a GPU."""
        return not self.device.startswith("cpu")

    def card_memory(self) -> int:
        """Returns the most bytes of the card that the worker's torch held so far; 0 on a CPU."""
        time.sleep(_NEWS_S)
        told = httpx.get(f"{self.url}/v1/system").json()["memory"]["device"]
        return int(told["peak_bytes"]) if told else 0


@contextmanager
def run_server(folder: Path, **settings: object) -> Iterator[Server]:
    """Starts `python -m app serve`, waits until it is ready, watches its memory, stops it.

    Args:
        folder: where it runs and keeps its voices and caches.
        **settings: keys of `.env`.

    Raises:
        RuntimeError: it did not become ready; its log is in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = {key.upper(): str(value) for key, value in settings.items()}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **given}
    with (folder / "server.log").open("w") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", "0"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    is_over = threading.Event()
    try:
        server = _wait_until_ready(process, began)
        watcher = threading.Thread(target=_watch_memory, args=(server, is_over), daemon=True)
        watcher.start()
        yield server
    finally:
        is_over.set()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        finally:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[str], began: float) -> Server:
    assert process.stdout is not None
    url = next(
        (match[0] for line in process.stdout if (match := re.search(r"http://\S+", line))), ""
    )
    with httpx.Client(base_url=url) as http:
        while url and process.poll() is None and time.perf_counter() < began + _START_S:
            with suppress(httpx.TransportError):
                if http.get("/ready").status_code == 200:
                    ready_s = time.perf_counter() - began
                    return _describe(http, psutil.Process(process.pid), ready_s)
            time.sleep(0.1)
    raise RuntimeError("The server did not become ready; its log says why.")


def _describe(http: httpx.Client, process: psutil.Process, ready_s: float) -> Server:
    told = http.get("/v1/system").json()
    chosen = {route["name"]: route["choice"] for route in told["routes"]}
    return Server(
        url=str(http.base_url),
        model=told["model"],
        precision=chosen["precision"],
        device=told["device"],
        rows=int(chosen["rows"]),
        ready_s=ready_s,
        process=process,
    )


def _watch_memory(server: Server, is_over: threading.Event) -> None:
    with suppress(psutil.Error):  # it ended
        while not is_over.wait(0.5):
            server.peak_bytes = max(server.peak_bytes, server.memory())
