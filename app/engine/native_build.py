"""Compiles the C beside it, once: as Python does with its own modules, into `__pycache__`.

Needs a C compiler (`CC`, or `cc`) and takes a second; whoever has none does without. Never imports
torch, so that an image can be built without it: `python -m app.engine.native_build`.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from app.files import atomic_path, sha256_of_bytes

_SOURCES = Path(__file__).parent / "native"
_UNITS = ("attention.h", "layers.c", "products.h", "rows.h", "team.h")
_MACHINES = ("x86_64", "AMD64")
# what every processor has whose VNNI instructions are 512 bits wide; asked for before it is loaded
_FLAGS = (
    *("-std=c11", "-O3", "-fPIC", "-shared", "-mfma"),
    *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"),
)
_PATIENCE_S = 120


class Built(NamedTuple):
    """The library, or None and the reason why there is none."""

    path: Path | None
    reason: str


@contextmanager
def built_library() -> Iterator[Built]:
    """Gives the compiled library for as long as the block runs; it may be loaded in it.

    Compiles it where there is none of these sources yet. It stays beside the sources, or where
    nothing can be written there, in a temporary folder that goes with the block.
    """
    if platform.machine() not in _MACHINES or sys.platform != "linux":
        yield Built(None, f"it is written for Linux on x86-64, not {platform.machine()}")
        return
    sources = [(_SOURCES / name).read_bytes() for name in _UNITS]
    digest = sha256_of_bytes(b"\0".join([*sources, *(flag.encode() for flag in _FLAGS)]))
    kept = _SOURCES / "__pycache__" / f"layers-{digest[:16]}.so"
    if kept.is_file():
        yield Built(kept, "compiled before")
        return
    if why_not := _why_no_compiler():
        yield Built(None, why_not)
        return
    with tempfile.TemporaryDirectory(prefix="audio-voice-") as folder:
        made = _compile(Path(folder) / kept.name)
        if made.path is not None:
            made = _keep(made.path, kept)
        yield made


def _keep(made: Path, kept: Path) -> Built:
    try:
        with atomic_path(kept) as part:
            shutil.copyfile(made, part)
    except OSError:  # a folder of somebody else's, or a disk that is read-only
        return Built(made, "compiled now, as it is at each start")
    return Built(kept, "compiled now")


def _compile(target: Path) -> Built:
    compiler = _compiler()
    command = [*compiler, *_FLAGS, str(_SOURCES / "layers.c"), "-o", str(target), "-lm"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Built(None, f"{compiler[0]} took more than {_PATIENCE_S} s")
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["without a word"])[0]
        return Built(None, f"{compiler[0]} failed: {said}")
    return Built(target, "")


def _compiler() -> list[str]:
    """Returns the compiler's command: `CC` where it is set, as for make, otherwise `cc`."""
    return shlex.split(os.environ.get("CC", "cc"))


def _why_no_compiler() -> str:
    compiler = _compiler()
    if compiler and shutil.which(compiler[0]) is not None:
        return ""
    return f"there is no C compiler ({compiler[0]})" if compiler else "CC is empty"


def main() -> int:
    """Compiles for an image; a machine that the code is not written for is no failure."""
    with built_library() as built:
        sys.stdout.write(f"{built.path or 'no compiled layers'}: {built.reason}\n")
        return int(built.path is None and platform.machine() in _MACHINES)


if __name__ == "__main__":
    sys.exit(main())
