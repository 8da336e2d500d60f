"""Two real models beside each other, each in its worker, and an alias that moves between them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from listening import num_samples
from live_server import ROOT, LiveServer, run_server

from app.models.bundles import builtin_folder

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]

TEXT = "The wind rose before the morning came."


def speak(server: LiveServer, text: str = TEXT, **fields: Any) -> httpx.Response:
    body = {"input": text, "response_format": "pcm", "seed": 7, **fields}
    return httpx.post(f"{server.url}/v1/audio/speech", json=body, timeout=120)


def workers(server: LiveServer) -> dict[str, dict[str, Any]]:
    told = httpx.get(f"{server.url}/v1/system").json()["workers"]
    return {worker["model"]: worker for worker in told}


def until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.1)


def promote(server: LiveServer, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    port = server.url.rpartition(":")[2]
    return subprocess.run(
        [sys.executable, "-m", "app", "models", *arguments, "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "API_PORT": port},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_models_beside_each_other_and_an_alias_that_moves(tmp_path: Path) -> None:
    with run_server(tmp_path, HEARTBEAT_S=0.2, MODEL_WAIT_S=120) as server:
        server.wait_until_ready()
        first = speak(server)
        part = tmp_path / "models" / ".mine.part"
        shutil.copytree(builtin_folder(), part)
        part.rename(part.parent / "mine")  # as an export appears

        second = speak(server, model="mine")
        assert second.headers["x-audio-model"] == "mine"
        assert first.headers["x-audio-model"] == "builtin"
        assert second.content == first.content  # the same weights in another worker
        until(lambda: bool(workers(server)["mine"]["stage_peak_bytes"].get("decode")))
        seen = workers(server)
        assert set(seen["mine"]["stage_peak_bytes"]) >= {"load", "prefill", "decode", "vocoder"}
        assert seen["mine"]["need_bytes"] >= seen["mine"]["used_bytes"] > 50 << 20
        assert seen["mine"]["pid"] != seen["builtin"]["pid"]

        with ThreadPoolExecutor(2) as pool:
            unharmed = pool.submit(speak, server, f"{TEXT} " * 6)
            lost = pool.submit(speak, server, f"{TEXT} " * 200, model="mine")
            until(lambda: workers(server)["mine"]["leases"] == 1)
            os.kill(seen["mine"]["pid"], signal.SIGKILL)
            assert lost.result().status_code == 503
            assert unharmed.result().status_code == 200
        until(lambda: workers(server)["mine"]["status"] == "ready")
        assert workers(server)["builtin"]["restarts"] == 0

        told = promote(server, tmp_path, "promote", "mine")
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout.splitlines()[-1])["before"] == "builtin"
        assert speak(server, model="tts-1").headers["x-audio-model"] == "mine"
        assert httpx.get(f"{server.url}/ready").json()["model"] == "mine"
        (tmp_path / "models" / "bad").mkdir()
        assert promote(server, tmp_path, "promote", "bad").returncode == 2
        assert speak(server).headers["x-audio-model"] == "mine"

    with run_server(tmp_path) as server:  # what was handed over survives a restart
        server.wait_until_ready()
        assert set(workers(server)) == {"mine"}
        assert num_samples(speak(server, response_format="wav").content, "wav") > 10_000
        assert promote(server, tmp_path, "rollback").returncode == 0
        assert speak(server).headers["x-audio-model"] == "builtin"
