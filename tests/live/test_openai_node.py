"""The official `openai` npm package speaks with a real server, in every format and way."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from listening import FORMATS, TEXT, check_length, samples_of
from live_server import LiveServer

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed"
    ),
]

SOURCE = Path(__file__).parent / "openai_node"
WAYS = ("whole", "chunks", "audio", "sse")
#: What npm says when there is no way to a package index.
_OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "ENOTCACHED")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and the package of the locked version beside it."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "speak.mjs"):
        shutil.copy(SOURCE / name, folder)
    install = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if install.returncode and any(word in install.stderr for word in _OFFLINE):
        pytest.skip("no package index for npm can be reached")
    assert install.returncode == 0, install.stderr
    return folder


@pytest.fixture(scope="module")
def folder(server: LiveServer, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script kept, and what it was told for an unknown voice."""
    kept = tmp_path_factory.mktemp("kept")
    run = subprocess.run(
        ["node", "speak.mjs", f"{server.url}/v1", str(kept), TEXT],
        cwd=package,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (kept / "refusal.json").write_text(run.stdout)
    return kept


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_has_its_length(folder: Path, fmt: str, way: str) -> None:
    pcm = (folder / "whole.pcm").read_bytes()
    data = (folder / f"{way}.{fmt}").read_bytes()
    check_length(data, fmt, pcm)
    if fmt in ("flac", "wav", "pcm"):
        assert samples_of(data, fmt) == pcm


def test_errors_reach_the_client_as_its_own(folder: Path) -> None:
    refusal = json.loads((folder / "refusal.json").read_text())
    assert refusal == {"status": 404, "code": "voice_not_found", "param": "voice"}
