"""The examples of docs/api.md run as they stand, against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from listening import num_samples
from live_server import ROOT, LiveServer

pytestmark = [pytest.mark.live, pytest.mark.slow]

PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8005"


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("example", examples("python"))
def test_python_examples(server: LiveServer, tmp_path: Path, example: str) -> None:
    said = run([sys.executable, "-c", example.replace(ADDRESS, server.url)], tmp_path)
    kept = list(tmp_path.iterdir())
    assert said or [path.name for path in kept] == ["speech.mp3"]
    assert all(num_samples(path.read_bytes(), path.suffix[1:]) > 10_000 for path in kept)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("example", examples("bash"))
def test_curl_examples(server: LiveServer, tmp_path: Path, example: str) -> None:
    order = {"input": "The wind rose. The wind rose.", "response_format": "wav", "seed": 1}
    clip = httpx.post(f"{server.url}/v1/audio/speech", json=order, timeout=60)
    (tmp_path / "maria.wav").write_bytes(clip.content)
    # The built-in model knows English alone.
    command = example.replace(ADDRESS, server.url).replace("language=pt", "language=en")
    said = run(["bash", "-c", command], tmp_path)
    if "--output speech.wav" in example:
        assert num_samples((tmp_path / "speech.wav").read_bytes(), "wav") > 10_000
    else:
        assert "error" not in json.loads(said)


def test_the_table_of_routes_is_complete(server: LiveServer) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    named = set(re.findall(r"(/[a-z0-9/{}]*)", PAGE))
    served = {re.sub(r"\{\w+\}", "{id}", path) for path in document["paths"]}
    assert served <= named


def test_the_table_of_metrics_is_complete(server: LiveServer) -> None:
    text = httpx.get(f"{server.url}/metrics").text
    served = set(re.findall(r"^# TYPE (audio_voice_\w+)", text, re.MULTILINE))
    named = set(re.findall(r"(audio_voice_\w+)", PAGE))
    assert {name for name in served if not name.endswith("_created")} == named
