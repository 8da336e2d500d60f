"""A real server with the built-in voice: its own process, its own worker, a free port."""

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

import app

ROOT = Path(app.__file__).parent.parent
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 40.0


@dataclass
class LiveServer:
    """A server that listens.

    `start_cpu_s` is what its process had worked when it first answered `/health`: on a machine
    with nothing else to do, the time that a client had to wait.
    """

    url: str
    process: subprocess.Popen[str]
    log: Path
    start_cpu_s: float

    def wait_until_ready(self) -> None:
        end_s = time.monotonic() + START_TIMEOUT_S
        while httpx.get(f"{self.url}/ready").status_code != 200:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end_s, f"not ready in time: {self.log.read_text()}"
            time.sleep(0.2)

    def metric(self, name: str) -> float:
        """Returns a sample of /metrics by its name with labels, 0 if it is not there."""
        text = httpx.get(f"{self.url}/metrics").text
        match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(match[1]) if match else 0.0


@contextmanager
def run_server(folder: Path, **settings: object) -> Iterator[LiveServer]:
    """Starts `python -m app serve` and stops it by SIGTERM, which must end it cleanly.

    Args:
        folder: where it runs; holds its voices and its log.
        **settings: keys of `.env`.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "VOICES_DIR": str(folder / "voices"),
        **{key: str(value) for key, value in settings.items()},
    }
    log = folder / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--port", "0"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield _listening(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    assert code == 0, log.read_text()


def _listening(process: subprocess.Popen[str], log: Path) -> LiveServer:
    watchdog = threading.Timer(START_TIMEOUT_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.search(r"http://\S+", line):
                _wait_for_health(match[0], process)
                times = psutil.Process(process.pid).cpu_times()
                return LiveServer(match[0], process, log, times.user + times.system)
    finally:
        watchdog.cancel()
    raise AssertionError(f"the server ended: {log.read_text()}")


def _wait_for_health(url: str, process: subprocess.Popen[str]) -> None:
    while process.poll() is None:
        with suppress(httpx.TransportError):
            assert httpx.get(f"{url}/health").status_code == 200
            return
        time.sleep(0.01)
