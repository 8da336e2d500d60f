"""Files that appear whole or not at all, and names made from content.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_READ_BLOCK = 1 << 20


def sha256_of_bytes(data: bytes) -> str:
    """Returns the hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Returns the hex SHA-256 of the file's content, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` durable (fsync of the directory itself)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; on success it is fsynced and renamed onto it.

    Readers see the old file or the new one, never a part of it. On an error the temporary file is
    removed and `target` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        # mkstemp makes files 0600; a published file follows the process's umask like any other.
        part.chmod(0o666 & ~_umask())
        part.replace(target)
        sync_folder(target.parent)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def write_atomic(target: Path, data: bytes) -> None:
    """Writes `data` to `target` so that it appears whole or not at all."""
    with atomic_path(target) as part:
        part.write_bytes(data)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
