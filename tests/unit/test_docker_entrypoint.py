"""What the container's entry point and health check make of a machine, without an engine."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

import app
from app.settings import load_settings
from docker import entrypoint, healthcheck

ROOT = Path(app.__file__).parent.parent
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("cuda", "driver", "too_old"),
    [
        ("11.8", "450.80.02", False),
        ("11.8", "450.79", True),
        ("11.8", "570.86.15", False),
        ("12.6", "525.60.12", True),
        ("12.8", "525.60.13", False),
        (None, "300.1", False),  # a build for the CPU
        ("11.8", "", False),  # nothing says
        ("99.0", "1.0", False),  # nothing is known
    ],
)
def test_driver_is_held_to_what_torch_needs(cuda: str | None, driver: str, too_old: bool) -> None:
    assert (entrypoint.why_driver_too_old(cuda, driver) is not None) == too_old


def test_driver_is_read_from_proc_or_the_name_of_its_library(tmp_path: Path) -> None:
    assert entrypoint.driver_version(tmp_path) == ""
    library = tmp_path / "usr/lib/x86_64-linux-gnu/libcuda.so.470.57.02"
    library.parent.mkdir(parents=True)
    library.touch()
    assert entrypoint.driver_version(tmp_path) == "470.57.02"
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n")
    assert entrypoint.driver_version(tmp_path) == "535.104.05"


def test_cuda_version_is_read_without_importing_torch() -> None:
    import torch

    assert entrypoint.torch_cuda() == torch.version.cuda


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "is read-only; mount a volume there"),
        (errno.ENOSPC, "make room"),
        (errno.EACCES, f"chown -R {os.getuid()}:{os.getgid()}"),
    ],
)
def test_unwritable_folder_is_told_with_its_remedy(tmp_path: Path, number: int, words: str) -> None:
    error = OSError(number, os.strerror(number))
    sentence = entrypoint.why_unwritable(tmp_path / "missing", error)
    assert words in sentence
    assert str(tmp_path) in sentence


def test_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    assert entrypoint.try_to_write(tmp_path / "new" / "voices") is None
    assert list((tmp_path / "new" / "voices").iterdir()) == []


def test_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "voices").touch()
    assert entrypoint.try_to_write(tmp_path / "voices") is not None


@pytest.mark.parametrize("command", [["true"], ["python", "-m", "app", "probe"]])
def test_only_what_needs_a_place_is_looked_at(command: list[str]) -> None:
    assert entrypoint.look(command) == []


def test_settings_that_do_not_fit_are_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_QUEUE", "many")
    (fault,) = entrypoint.look(["python", "-m", "app", "serve"])
    assert fault.code == entrypoint.EXIT_SETTINGS
    assert "MAX_QUEUE" in fault.sentence


def test_healthy_place_has_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(entrypoint.find_faults(load_settings(force_cpu=True), trains=False)) == []
    assert "there is no .env" in capsys.readouterr().err
    monkeypatch.setenv("LOG_LEVEL", "info")
    assert list(entrypoint.find_faults(load_settings(force_cpu=True), trains=False)) == []
    assert capsys.readouterr().err == ""


def test_denied_device_is_a_lost_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidia-caps").mkdir()
    assert healthcheck.find_lost_gpu(tmp_path) is None

    def deny(path: Path, flags: int) -> int:
        raise OSError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "open", deny)
    assert healthcheck.find_lost_gpu(tmp_path) == tmp_path / "nvidia0"


def test_silent_run_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "train" / "output" / "state.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    assert healthcheck.look_at_run()[0]
    hour_ago = state.stat().st_mtime - 3600
    for path in (state, state.parent):
        os.utime(path, (hour_ago, hour_ago))
    assert not healthcheck.look_at_run()[0]


def test_image_has_the_versions_of_the_project() -> None:
    torch = re.search(r'"torch==(.+)",', (ROOT / "pyproject.toml").read_text())[1]
    assert f"ARG TORCH_VERSION={torch}\n" in DOCKERFILE
    assert f'image.version="{app.__version__}"' in DOCKERFILE


def test_base_image_is_pinned_by_digest() -> None:
    assert re.search(r"^ARG BASE_IMAGE=\S+:\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", ["docker-compose-gpu.yml", "docker-compose-training.yml"])
def test_every_mounted_folder_is_made_in_the_image(name: str) -> None:
    """A volume takes its owner from the image's folder; without one it would be root's."""
    made = re.search(r"for folder in (.+); do", DOCKERFILE)[1].split()
    mounted = re.findall(r"^ +- \w+:/srv/([\w/]+)", (ROOT / name).read_text(), re.MULTILINE)
    assert mounted
    assert set(mounted) <= set(made)
