"""The image, built once from what a fresh clone would hold, and the stacks that run it.

`make containers` runs these tests; without it each is skipped by name, because a first build takes
minutes and gigabytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_cli import IMAGE, Stack, docker, free_port

ROOT = Path(__file__).resolve().parents[2]
# A server outside the container, to compare with, is what the live tests have.
sys.path.append(str(ROOT / "tests" / "live"))
SERVICE = "docker-compose-gpu.yml"
SERVICE_ON_CPU = "docker/compose.cpu.yml"
_BUILD_TIMEOUT_S = 1500.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A first build comes with the first test that needs the image."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(_BUILD_TIMEOUT_S + 600))


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine that these tests may use, with nothing of a real installation on it."""
    if os.environ.get("CONTAINER_TESTS") != "1":
        pytest.skip("needs a Docker engine and a build of the image: make containers")
    containers = docker("ps", "--all", "--filter", "name=^audio-voice-", "--format", "{{.Names}}")
    volumes = docker("volume", "ls", "--filter", "name=^audio-voice-", "--format", "{{.Name}}")
    found = containers.stdout.split() + volumes.stdout.split()
    if found:
        pytest.skip(f"this engine has an installation that tests would destroy: {found}")


@pytest.fixture(scope="session")
def checkout(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that git would keep, as they are now: a fresh clone of that."""
    folder = tmp_path_factory.mktemp("clone") / "audio-voice"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def image(checkout: Path) -> str:
    """The image, built as the README says."""
    Stack(checkout, (SERVICE,)).compose("build", timeout_s=_BUILD_TIMEOUT_S)
    return IMAGE


@pytest.fixture(scope="session")
def takes_gpu_files(image: str) -> bool:
    """Whether the engine accepts a GPU's reservation and has no GPU, as engine.sh's does."""
    tried = docker("run", "--rm", "--gpus", "all", image, "ls", "/dev", check=False)
    return tried.returncode == 0 and "nvidia0" not in tried.stdout


@pytest.fixture(scope="module")
def service(image: str, checkout: Path, takes_gpu_files: bool) -> Iterator[Stack]:
    """The service by the file for GPUs, unmodified where the engine takes it; taken down at the end
    with its volumes.
    """
    files = (SERVICE,) if takes_gpu_files else (SERVICE, SERVICE_ON_CPU)
    yield from _run(Stack(checkout, files, {"API_PORT": free_port()}))


@pytest.fixture(scope="module")
def service_on_cpu(image: str, checkout: Path) -> Iterator[Stack]:
    """The service as on a machine without a GPU; taken down at the end with its volumes."""
    yield from _run(Stack(checkout, (SERVICE, SERVICE_ON_CPU), {"API_PORT": free_port()}))


def _run(stack: Stack) -> Iterator[Stack]:
    try:
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "60")
