"""What is in the image, what a changed file costs, and how little it needs to run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from docker_cli import (
    HARDENED,
    Stack,
    docker,
    inspect,
    wait_until_healthy,
)

import app

SPEAK = """
import io, json, urllib.request, wave
body = json.dumps({"input": "The wind rose before the morning came.", "response_format": "wav"})
request = urllib.request.Request(
    "http://127.0.0.1:8005/v1/audio/speech", body.encode(), {"Content-Type": "application/json"}
)
with urllib.request.urlopen(request, timeout=120) as answer, wave.open(answer) as speech:
    print(json.dumps([answer.headers["X-Audio-Verdict"], speech.getnframes() / 24000]))
"""


@pytest.fixture
def bystander() -> None:
    """A container of the tests' own, removed whatever happens."""
    docker("rm", "--force", "--volumes", "bystander", check=False)
    yield
    docker("rm", "--force", "--volumes", "bystander", check=False)


def test_the_image_says_what_it_is(image: str) -> None:
    config = inspect(image, ".Config")
    assert config["Labels"]["org.opencontainers.image.version"] == app.__version__
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"\d+:\d+", config["User"])
    assert not config["User"].startswith("0:")


def test_nothing_of_the_build_is_left_in_it(image: str) -> None:
    look = "command -v gcc cc make pip pip3 uv git; ls -A /root /var/lib/apt/lists /wheels"
    found = docker(
        "run", "--rm", "--user", "0", "--entrypoint", "sh", image, "-c", look, check=False
    )
    names = [line for line in found.stdout.split() if not line.endswith(":")]
    assert set(names) <= {".bashrc", ".profile"}


def test_another_build_of_torch_than_was_asked_for_is_refused(image: str) -> None:
    check = ("python", "/srv/docker/check_torch.py")
    refused = docker("run", "--rm", image, *check, "cu128", check=False)
    assert refused.returncode == 1
    assert "TORCH=cu128 is built for CUDA 12.8; installed is CUDA" in refused.stderr


def test_an_unknown_build_of_torch_stops_the_build(image: str, checkout: Path) -> None:
    stack = Stack(checkout, ("docker-compose-gpu.yml",), {"TORCH": "cu999"})
    refused = stack.compose("build", check=False)
    assert refused.returncode != 0
    assert "TORCH=cu999: choose cu118, cu128, cpu or pypi" in refused.stdout + refused.stderr


def test_changed_code_is_one_small_layer(image: str, checkout: Path) -> None:
    before = inspect(image, ".RootFS.Layers")
    file = checkout / "app" / "main.py"
    file.write_text(file.read_text() + "\n# changed\n")
    Stack(checkout, ("docker-compose-gpu.yml",)).compose("build")
    after = inspect(image, ".RootFS.Layers")
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]
    sizes = docker("history", image, "--format", "{{json .}}", "--human=false").stdout.splitlines()
    layers = [json.loads(line) for line in sizes]
    changed = next(layer for layer in layers if int(layer["Size"]) > 0)
    assert "COPY /srv /srv" in changed["CreatedBy"]
    assert int(changed["Size"]) < 10_000_000


def test_it_speaks_with_next_to_nothing(image: str, bystander: None) -> None:
    """No network, no writable disk, no capability, no volume, somebody's uid, 2 GB."""
    limits = ("--network", "none", "--user", "4711", "--memory", "2g", "--memory-swap", "2g")
    often = ("--health-interval", "2s")
    docker("run", "--detach", "--name", "bystander", *often, *HARDENED, *limits, image)
    wait_until_healthy("bystander")
    verdict, seconds = json.loads(docker("exec", "bystander", "python", "-c", SPEAK).stdout)
    assert verdict.startswith("ok")
    assert 1 < seconds < 8
    assert inspect("bystander", ".State.OOMKilled") is False


def test_volumes_belong_to_any_uid_of_the_images_group(image: str) -> None:
    where = ("--user", "4711", "--volume", "audio-voice-any-uid:/srv/voices")
    try:
        docker("run", "--rm", *HARDENED, *where, image, "touch", "/srv/voices/clip")
        listed = docker("run", "--rm", *HARDENED, *where, image, "ls", "/srv/voices")
        assert listed.stdout.split() == ["clip"]
    finally:
        docker("volume", "rm", "audio-voice-any-uid")


def test_a_stop_ends_it_cleanly(image: str, bystander: None) -> None:
    docker("run", "--detach", "--name", "bystander", "--health-interval", "2s", image)
    wait_until_healthy("bystander")
    docker("stop", "--time", "60", "bystander")
    assert inspect("bystander", ".State.ExitCode") == 0
