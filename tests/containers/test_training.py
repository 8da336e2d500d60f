"""Training by its compose file: twelve clips, two epochs, a stop in between, a voice at the end.

One story in order: each test goes on where the one before it stopped.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from clip_folders import CLIPS
from docker_cli import Stack, docker, free_port, health_of, inspect, logs_of, wait_for
from test_service import get, speak

TRAINER, BOARD, API = "audio-voice-trainer", "audio-voice-tensorboard", "audio-voice-api"
_TRAIN_TIMEOUT_S = 900.0
CLIP = CLIPS / "arctic_a0026_1592747944.flac"
#: Small batches, so that there is a middle to stop in.
_SETTINGS = """
NUM_EPOCHS=2
BATCH_TOKENS=64
SCORE_SENTENCES=1
EXPORT_NAME=twelve-clips
DATA_WORKERS=1
"""
_SAVE_EACH_STEP = "SAVE_EVERY_MIN=0.0001\n"


@pytest.fixture(scope="module")
def training(image: str, checkout: Path) -> Iterator[Stack]:
    """The training stack with twelve clips in `data`, as .env has it from the start."""
    data = checkout / "data"
    shutil.copytree(checkout / "tests" / "recipe" / "data" / "kathleen", data)
    data.chmod(0o755)
    (checkout / ".env").write_text(_SETTINGS + _SAVE_EACH_STEP)
    files = ("docker-compose-training.yml", "docker/compose.training-cpu.yml")
    stack = Stack(checkout, files, {"TENSORBOARD_PORT": free_port()})
    try:
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "60")
        (checkout / ".env").unlink()


@pytest.fixture(scope="module")
def stopped_at(training: Stack) -> int:
    """Starts the training, stops it in its first epoch, and returns the step it was saved at."""
    training.compose("up", "--detach")
    wait_for(lambda: saved_steps(), "a first step that is saved", _TRAIN_TIMEOUT_S)
    training.compose("stop", "audio-voice-trainer", timeout_s=400)
    assert inspect(TRAINER, ".State.ExitCode") == 0
    assert "stopped: start it again and it goes on" in logs_of(TRAINER)
    (training.checkout / ".env").write_text(_SETTINGS)  # saving is slow; one stop is enough
    return max(saved_steps())


def saved_steps() -> list[int]:
    """Returns the steps of the states in the training volume."""
    look = ("run", "--rm", "--volume", "audio-voice-training:/t:ro", "audio-voice")
    listed = docker(*look, "sh", "-c", "ls /t/state 2>/dev/null || true").stdout
    return [int(number) for number in re.findall(r"^step-(\d+)-", listed, re.MULTILINE)]


def test_the_trainer_waits_for_tensorboard(stopped_at: int) -> None:
    assert health_of(BOARD)[0] == "healthy"
    assert inspect(BOARD, ".State.StartedAt") < inspect(TRAINER, ".State.StartedAt")


def test_a_stop_saves_in_the_middle_of_an_epoch(stopped_at: int) -> None:
    assert stopped_at > 0
    assert "checkpoints/checkpoint_epoch_1.pt" not in files_in_output()


def test_up_again_goes_on_at_the_same_step(training: Stack, stopped_at: int) -> None:
    training.compose("up", "--detach")
    told = wait_for(
        lambda: re.search(r"Going on at step (\d+), in epoch (\d+)", logs_of(TRAINER)),
        "the word that it goes on",
    )
    assert (int(told[1]), int(told[2])) == (stopped_at, 1)


def test_it_comes_to_its_end(training: Stack, stopped_at: int) -> None:
    wait_for(lambda: inspect(TRAINER, ".State.Status") == "exited", "its end", _TRAIN_TIMEOUT_S)
    assert inspect(TRAINER, ".State.ExitCode") == 0, logs_of(TRAINER)
    written = files_in_output()
    assert "checkpoints/checkpoint_epoch_2.pt" in written
    assert {"samples/epoch_1_output.wav", "samples/epoch_2_output.wav"} <= written


def files_in_output() -> set[str]:
    look = ("run", "--rm", "--volume", "audio-voice-training:/t:ro", "audio-voice")
    return set(docker(*look, "sh", "-c", "cd /t; find . -type f -printf '%P\\n'").stdout.split())


def test_tensorboard_is_there_after_the_run(training: Stack, stopped_at: int) -> None:
    url = f"http://127.0.0.1:{training.variables['TENSORBOARD_PORT']}/data/runs"
    assert get(url), "no run is shown"
    assert health_of(BOARD)[0] == "healthy"


@pytest.fixture(scope="module")
def trained_service(service_on_cpu: Stack, stopped_at: int) -> str:
    """The service beside the training stack, on the volumes that the two share."""
    service_on_cpu.compose("up", "--detach", "--wait")
    return f"http://127.0.0.1:{service_on_cpu.variables['API_PORT']}"


def test_the_service_speaks_with_what_was_trained(trained_service: str) -> None:
    assert "twelve-clips" in {model["id"] for model in get(f"{trained_service}/v1/models")["data"]}
    samples, verdict = speak(trained_service, model="twelve-clips", voice="default")
    assert verdict.startswith("ok")
    assert 1 < len(samples) / 24000 < 10


def test_the_service_speaks_with_a_checkpoint(service_on_cpu: Stack, trained_service: str) -> None:
    """A checkpoint has no voice of its own; a clip from outside gives it one."""
    env = service_on_cpu.checkout / ".env"
    before = env.read_text()
    env.write_text(f"{before}DEFAULT_MODEL=train/output/checkpoints/checkpoint_epoch_2.pt\n")
    try:
        service_on_cpu.compose("up", "--detach", "--wait")
        uploaded = httpx.post(
            f"{trained_service}/v1/audio/voices",
            data={"name": "reader", "consent": "The recording is in the public domain."},
            files={"audio_sample": CLIP.read_bytes()},
            timeout=240,
        )
        assert uploaded.is_success, uploaded.text
        samples, verdict = speak(trained_service, voice="reader")
        assert verdict.startswith("ok")
        assert 1 < len(samples) / 24000 < 10
    finally:
        env.write_text(before)


def test_down_leaves_nothing(training: Stack, service_on_cpu: Stack, trained_service: str) -> None:
    service_on_cpu.compose("down", "--timeout", "60")
    training.compose("down", "--volumes", "--timeout", "60")
    service_on_cpu.compose("down", "--volumes")
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert docker(*kind, "--quiet", "--filter", "name=audio-voice").stdout == "", kind
