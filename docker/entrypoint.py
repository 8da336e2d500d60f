"""Looks at what the container was given, says what is wrong with it, then becomes the command.

Called with a command and its arguments. `python -m app serve` and commands of `python -m train`
are looked at first; anything else starts as it is. The command replaces this process, so signals
reach it. Exit codes of a container that was not started:

    2  a setting, or a licence that was not accepted
    3  a volume that can't be written or read
    4  DEVICE=cuda, and there is no GPU
    5  a driver that is too old for this build of torch
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import runpy
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.devices import hardware
from app.errors import AudioVoiceError, NotFoundError, RefusedError
from app.settings import Settings, known_keys, load_settings

EXIT_SETTINGS = 2
EXIT_VOLUME = 3
EXIT_NO_GPU = 4
EXIT_DRIVER = 5

#: Oldest driver for each major version of CUDA (docs.nvidia.com/deploy/cuda-compatibility, "minor
#: version compatibility"). The base image's own check may be switched off; this one can't.
OLDEST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
#: Keys that the image or the compose files set themselves.
_SET_BY_US = frozenset(
    {
        *("API_HOST", "API_PORT", "CACHE_DIR", "DATA", "FORCE_CPU", "MODELS_DIR", "TENSORBOARD"),
        *("TRAIN_CACHE_DIR", "TRAIN_OUTPUT_DIR", "TRAIN_RUNS_DIR", "TZ", "VOICES_DIR"),
    }
)


@dataclass(frozen=True)
class Fault:
    """What is wrong: one sentence for a person, and the container's exit code."""

    code: int
    sentence: str


def main(command: Sequence[str]) -> int:
    """Becomes the command, or returns the exit code of the first fault; all faults are told."""
    if not command:
        _say("no command was given; the image's own is `python -m app serve`.")
        return EXIT_SETTINGS
    faults = look(command)
    for fault in faults:
        _say(fault.sentence)
    if not faults:
        os.execvp(command[0], list(command))  # noqa: S606 - the command is the operator's own
    return faults[0].code


def look(command: Sequence[str]) -> list[Fault]:
    """Returns what keeps the command from working in this container."""
    trains = list(command[1:3]) == ["-m", "train"]
    if not trains and list(command[1:4]) != ["-m", "app", "serve"]:
        return []
    try:
        return list(find_faults(load_settings(), trains=trains))
    except AudioVoiceError as error:
        return [Fault(EXIT_SETTINGS, error.message)]


def find_faults(settings: Settings, *, trains: bool) -> Iterator[Fault]:
    """Yields what keeps the command from working here; notes go to stderr.

    Args:
        settings: the service's; the trainer's own keys are read where it is to run.
        trains: whether the trainer is to run, not the service.

    Raises:
        SettingsError: a value of the trainer's keys does not fit.
    """
    if not any(key in os.environ for key in known_keys() - _SET_BY_US):
        _say(
            "note: no setting reached this container, so the defaults hold; there is no .env "
            "beside the compose file, or nothing in it (cp .env.example .env)."
        )
    if trains:
        yield from _faults_of_training(settings)
    else:
        for folder in (settings.models_dir, settings.voices_dir, settings.cache_dir):
            yield from _unwritable(folder, needed=False)
        yield from _licence_fault(settings.default_model, settings)
    yield from _gpu_fault(settings)


def _faults_of_training(settings: Settings) -> Iterator[Fault]:
    from train.options import load_options  # the image may be cut down to the service

    options = load_options()
    own = (options.train_output_dir, options.train_runs_dir, options.train_cache_dir)
    for folder in (settings.models_dir, settings.cache_dir, *own):
        yield from _unwritable(folder, needed=True)
    if not os.access(options.data, os.R_OK | os.X_OK if options.data.is_dir() else os.R_OK):
        yield Fault(
            EXIT_VOLUME,
            f"{options.data} (DATA) is not there or can't be read by uid {os.getuid()}: name the "
            "folder of clips in .env, and on the host: chmod -R a+rX FOLDER.",
        )
    yield from _licence_fault(options.base_model or settings.default_model, settings)


def _unwritable(folder: Path, *, needed: bool) -> Iterator[Fault]:
    """Tries to write. The service gets along without a place of its own for what it keeps, but not
    with a volume that was meant for it and can't be used.
    """
    folder = folder.absolute()
    error = try_to_write(folder)
    if error is None:
        return
    if error.errno == errno.EROFS and not needed and not _is_on_volume(folder):
        _say(f"note: {folder} is no volume, and the container is read-only: nothing is kept there.")
        return
    yield Fault(EXIT_VOLUME, why_unwritable(folder, error))


def try_to_write(folder: Path) -> OSError | None:
    """Writes a file into the folder and removes it; returns what came of it if not that."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-"):
            return None
    except OSError as error:
        return error


def why_unwritable(folder: Path, error: OSError) -> str:
    """Returns what is wrong with a folder, and the remedy, in one sentence."""
    if error.errno == errno.EROFS:
        return f"{folder} is read-only; mount a volume there (-v NAME:{folder}), without `:ro`."
    if error.errno not in (errno.EACCES, errno.EPERM):
        return f"{folder} can't be written: {error.strerror}; make room, or mount another volume."
    seen = next(path for path in (folder, *folder.parents) if path.exists()).stat()
    owner, user = f"{seen.st_uid}:{seen.st_gid}", f"{os.getuid()}:{os.getgid()}"
    return (
        f"{folder} belongs to {owner} and can't be written by this container's {user}; on the "
        f"host: chown -R {user} its folder (docs/deploy.md: volumes)."
    )


def _is_on_volume(folder: Path) -> bool:
    return any(path.is_mount() for path in (folder, *folder.parents) if path != Path("/"))


def _licence_fault(model: str, settings: Settings) -> Iterator[Fault]:
    """Says it before the start where the model would have to be fetched under a licence."""
    from app.models.bundles import XTTS_V2, find_bundle
    from app.models.download import check_licence

    try:
        if model == XTTS_V2 and not (settings.models_dir / XTTS_V2).exists():
            check_licence(settings)
        elif model != XTTS_V2:
            find_bundle(model, settings)
    except (NotFoundError, RefusedError) as error:
        yield Fault(EXIT_SETTINGS, error.message)
    except (AudioVoiceError, OSError):
        pass  # a damaged bundle is for the command itself to explain


def _gpu_fault(settings: Settings) -> Iterator[Fault]:
    if settings.force_cpu or settings.device == "cpu":
        return
    if not hardware.nvidia_gpus() and not hardware.amd_gpus():
        if settings.device == "cuda":
            yield Fault(
                EXIT_NO_GPU,
                "DEVICE=cuda, and this container has no GPU: start it with docker-compose-gpu.yml "
                "or --gpus all, install the NVIDIA container toolkit on the host, or set "
                "DEVICE=auto.",
            )
        else:
            _say("note: this container has no GPU; the CPU does the work.")
        return
    sentence = why_driver_too_old(torch_cuda(), driver_version())
    if sentence:
        yield Fault(EXIT_DRIVER, sentence)


def driver_version(root: Path = hardware.ROOT) -> str:
    """Returns the NVIDIA driver's version, by /proc or by the name of its mounted library."""
    names = (
        re.search(r"libcuda\.so\.(\d+\.[\d.]+\d)", name) for name in hardware.driver_files(root)
    )
    return hardware.driver_version(root) or next((found[1] for found in names if found), "")


def torch_cuda() -> str | None:
    """Returns the CUDA version that torch was built for, without importing torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    cuda: str | None = runpy.run_path(str(Path(spec.origin).parent / "version.py")).get("cuda")
    return cuda


def why_driver_too_old(cuda: str | None, driver: str) -> str | None:
    """Compares a driver with what a build of torch needs; None where it is new enough, or unknown.

    Args:
        cuda: such as `11.8`; None for a build that uses no NVIDIA GPU.
        driver: such as `470.57.02`; empty where nothing says.
    """
    oldest = OLDEST_DRIVER.get(int(cuda.split(".")[0])) if cuda else None
    if oldest is None or not driver or _numbers(driver) >= _numbers(oldest):
        return None
    return (
        f"The NVIDIA driver is {driver}; torch for CUDA {cuda} needs {oldest} or newer: put a "
        "newer one on the host, or set FORCE_CPU=true."
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _say(sentence: str) -> None:
    sys.stderr.write(f"audio-voice: {sentence}\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
