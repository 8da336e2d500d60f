"""What a container says, and how it ends, when it was not given what it needs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from docker_cli import HARDENED, Stack, docker, logs_of, wait_for

EXIT_SETTINGS, EXIT_VOLUME, EXIT_NO_GPU, EXIT_DRIVER = 2, 3, 4, 5
LISTENS, NO_ENV = "audio-voice listens on", "there is no .env beside the compose file"
FIT = ("python", "-m", "train", "fit", "/data")


def start(image: str, *options: str, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Starts a container that is expected to end by itself."""
    return docker("run", "--rm", *HARDENED, *options, image, *command, check=False)


@pytest.fixture
def foreign_folder(tmp_path: Path) -> Path:
    """A folder of the host that belongs to root."""
    folder = tmp_path / "voices"
    folder.mkdir(mode=0o755)
    return folder


def test_a_volume_that_cannot_be_written(image: str, foreign_folder: Path) -> None:
    ended = start(image, "--volume", f"{foreign_folder}:/srv/voices")
    owner = foreign_folder.stat()
    assert ended.returncode == EXIT_VOLUME
    assert f"/srv/voices belongs to {owner.st_uid}:{owner.st_gid}" in ended.stderr
    assert "chown -R 10001:0" in ended.stderr


def test_the_remedy_for_it_works(image: str, foreign_folder: Path) -> None:
    volume = ("--volume", f"{foreign_folder}:/srv/voices")
    docker("run", "--rm", "--user", "0", "--entrypoint", "chown", *volume, image, "-R", "10001:0",
           "/srv/voices")  # fmt: skip
    ended = start(image, *volume, "--env", "DEVICE=cuda")
    assert ended.returncode == EXIT_NO_GPU, "the volume is still what is wrong"


def test_a_volume_that_is_read_only(image: str, foreign_folder: Path) -> None:
    ended = start(image, "--volume", f"{foreign_folder}:/srv/cache:ro")
    assert ended.returncode == EXIT_VOLUME
    assert "/srv/cache is read-only; mount a volume there" in ended.stderr


def test_no_gpu_though_one_was_asked_for(image: str) -> None:
    ended = start(image, "--env", "DEVICE=cuda")
    assert ended.returncode == EXIT_NO_GPU
    assert "DEVICE=cuda, and this container has no GPU" in ended.stderr
    assert "NVIDIA container toolkit" in ended.stderr


def test_a_driver_that_is_too_old(image: str, tmp_path: Path) -> None:
    """The container toolkit mounts the driver's library under its version; so do we."""
    library = tmp_path / "libcuda"
    library.touch()
    as_mounted = "/usr/lib/x86_64-linux-gnu/libcuda.so.418.226.00"
    gpu = ("--device", "/dev/null:/dev/nvidia0", "--volume", f"{library}:{as_mounted}:ro")
    asks = ("--env", "NVIDIA_DISABLE_REQUIRE=1")
    if docker("run", "--rm", image, "python", "/srv/docker/check_torch.py", "cpu", check=False
              ).returncode == 0:  # fmt: skip
        pytest.skip("this image has torch for the CPU, which needs no driver")
    ended = start(image, *gpu, *asks)
    assert ended.returncode == EXIT_DRIVER
    assert "The NVIDIA driver is 418.226.00; torch for CUDA" in ended.stderr


def test_a_licence_that_was_not_accepted(image: str) -> None:
    ended = start(image, "--env", "DEFAULT_MODEL=xtts-v2")
    assert ended.returncode == EXIT_SETTINGS
    assert "Coqui Public Model License" in ended.stderr
    assert "COQUI_TOS_AGREED=1" in ended.stderr


def test_a_model_that_is_not_there(image: str) -> None:
    ended = start(image, "--env", "DEFAULT_MODEL=nobody")
    assert ended.returncode == EXIT_SETTINGS
    assert "There is no model 'nobody'" in ended.stderr


def test_a_setting_that_does_not_fit(image: str) -> None:
    ended = start(image, "--env", "MAX_QUEUE=many")
    assert ended.returncode == EXIT_SETTINGS
    assert "MAX_QUEUE='many' does not fit" in ended.stderr


def test_all_faults_are_told_at_once(image: str, foreign_folder: Path) -> None:
    broken = ("--volume", f"{foreign_folder}:/srv/voices", "--env", "DEVICE=cuda")
    ended = start(image, *broken)
    assert ended.returncode == EXIT_VOLUME
    assert "/srv/voices belongs to" in ended.stderr
    assert "DEVICE=cuda, and" in ended.stderr


def test_clips_that_are_not_there(image: str) -> None:
    folders = ("output", "runs", "cache")
    writable = [w for name in folders for w in ("--tmpfs", f"/srv/train/{name}:mode=1777")]
    writable += ["--tmpfs", "/srv/models:mode=1777", "--tmpfs", "/srv/cache:mode=1777"]
    ended = start(image, *writable, command=FIT)
    assert ended.returncode == EXIT_VOLUME
    assert "/data (DATA) is not there" in ended.stderr


def test_training_has_nowhere_to_write(image: str) -> None:
    ended = start(image, command=FIT)
    assert ended.returncode == EXIT_VOLUME
    assert "/srv/train/output is read-only; mount a volume there" in ended.stderr


def test_no_settings_at_all_is_said(image: str, service: Stack) -> None:
    """Without .env the defaults hold, and the log says so; with one nothing is said."""
    service.compose("up", "--detach")
    wait_for(lambda: LISTENS in logs_of("audio-voice-api"), LISTENS)
    assert NO_ENV in logs_of("audio-voice-api")
    shutil.copy(service.checkout / ".env.example", service.checkout / ".env")
    try:
        service.compose("up", "--detach", "--force-recreate")
        wait_for(lambda: LISTENS in logs_of("audio-voice-api"), LISTENS)
        assert NO_ENV not in logs_of("audio-voice-api")
    finally:
        (service.checkout / ".env").unlink()


def test_other_commands_start_whatever_is_missing(image: str) -> None:
    ended = start(image, "--env", "DEVICE=cuda", command=("python", "-m", "app", "models"))
    assert ended.returncode == 0
    assert "builtin" in ended.stdout
