"""Training state on disk: whole or not at all, with its checksum in its name.

A checkpoint is one file `step-00001200-<16 hex of its SHA-256>.pt` of tensors and plain numbers,
written as it is made: no second copy in memory. Which one is newest goes by the step, never by a
clock. What is on the disk already can be linked beside a checkpoint instead of written again. Knows
nothing of what the state means.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import torch

from app.errors import OutputError
from app.files import sha256_of_file, sync_folder

_NAME_RE = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.pt")
_BESIDE_RE = re.compile(r"beside-(\d{8})-[0-9a-f]{16}\.pt")
#: Key of a state: SHA-256 of each file that belongs to it, by its name.
BESIDE = "beside"
_log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int = 2) -> Path:
    """Saves `state` and removes all but the newest `keep` checkpoints of the folder.

    One of the same step is replaced. On a full disk, older checkpoints than the newest make room
    before it is given up.

    Raises:
        OutputError: the disk is full or can't be written to; what was saved before is as it was.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        try:
            path = _write(folder, step, state)
        except OSError as error:
            if error.errno != errno.ENOSPC or not _remove_older(folder, keep=1):
                raise
            path = _write(folder, step, state)
    except OSError as error:
        raise OutputError(
            f"{folder} can't be written to ({error.strerror}), so step {step} is not saved; "
            "what was saved before is whole. Make room or mend the disk."
        ) from error
    _remove_others_of_step(path)
    _remove_older(folder, keep=keep)
    return path


def link_beside(folder: Path, step: int, file: Path, sha256: str) -> str | None:
    """Gives a durable file a second name in the folder, for the state of a step that is saved next.

    The file may then be removed where it was, and takes no more room on the disk than before.

    Args:
        folder: of the checkpoints.
        step: of the state that will name it under `BESIDE`.
        file: never written to again.
        sha256: of its content.

    Returns:
        Its name in the folder; None where the file system has no hard links.
    """
    name = f"beside-{step:08d}-{sha256[:16]}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.link(file, folder / name)
    except OSError:
        return None
    return name


def keep_newest(folder: Path) -> None:
    """Removes all checkpoints but the newest, once that was read back whole; else it keeps all."""
    for path in list_checkpoints(folder)[:1]:
        if _read_whole(path) is not None:
            _remove_older(folder, keep=1)


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints of a folder, newest first."""
    found = [path for path in folder.glob("step-*.pt") if _NAME_RE.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name[:13], reverse=True)


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Returns the newest state whose checksum fits, or None; a damaged file is named and passed."""
    states = (_read_whole(path) for path in list_checkpoints(folder))
    return next((state for state in states if state is not None), None)


def _read_whole(path: Path) -> dict[str, Any] | None:
    """Returns a state that is whole, with all that belongs to it; else names what is not."""
    match = _NAME_RE.fullmatch(path.name)
    if match is None or sha256_of_file(path)[:16] != match[2]:
        _log.warning("%s is damaged; going on from the checkpoint before it.", path)
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    for name, sha256 in state.get(BESIDE, {}).items():
        beside = path.parent / name
        if not beside.is_file() or sha256_of_file(beside) != sha256:
            _log.warning(
                "%s, which belongs to %s, is damaged or gone; going on from the checkpoint before.",
                beside,
                path.name,
            )
            return None
    return state


def write_torch(path: Path, content: dict[str, Any]) -> str:
    """Writes what `torch.save` makes of `content`, as it is made, and returns its hex SHA-256.

    The file is durable when this returns.

    Raises:
        OSError: a byte could not be written.
    """
    # unbuffered: an error must come while it can still be told
    with path.open("wb", buffering=0) as stream:
        hashing = _HashingStream(stream)
        torch.save(content, cast(IO[bytes], hashing))
        return hashing.sync_or_raise()


class _HashingStream:
    """Passes bytes on to a file and sums them up.

    An error of the file is kept for the caller: in the middle of `torch.save` it would end the
    process.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes `data`; after an error, nothing any more."""
        if self._error is None:
            try:
                self._stream.write(data)
            except OSError as error:
                self._error = error
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Is called by torch."""

    def sync_or_raise(self) -> str:
        """Makes all that was written durable and returns its hex SHA-256."""
        if self._error is not None:
            raise self._error
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._digest.hexdigest()


def _write(folder: Path, step: int, state: dict[str, Any]) -> Path:
    handle, name = tempfile.mkstemp(prefix=".step-", suffix=".part", dir=folder)
    os.close(handle)
    part = Path(name)
    try:
        digest = write_torch(part, state)
        path = folder / f"step-{step:08d}-{digest[:16]}.pt"
        part.replace(path)
        sync_folder(folder)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return path


def _remove_others_of_step(path: Path) -> None:
    """Removes what was saved of the same step before: the epoch may have been ended since."""
    for other in list_checkpoints(path.parent):
        if other.name != path.name and other.name[:13] == path.name[:13]:
            with suppress(FileNotFoundError):
                other.unlink()


def _remove_older(folder: Path, *, keep: int) -> bool:
    """Removes all but the newest and what belongs to them; says whether there was one to remove."""
    checkpoints = list_checkpoints(folder)
    old = checkpoints[keep:]
    kept = {path.name[5:13] for path in checkpoints[:keep]}
    linked = ((path, _BESIDE_RE.fullmatch(path.name)) for path in folder.glob("beside-*.pt"))
    for path in [*old, *(path for path, match in linked if match and match[1] not in kept)]:
        with suppress(FileNotFoundError):
            path.unlink()
    return bool(old)


def _remove_leftovers(folder: Path) -> None:
    """Removes what a killed process left half written; a folder has one writer."""
    for path in folder.glob(".step-*.part"):
        with suppress(FileNotFoundError):
            path.unlink()
