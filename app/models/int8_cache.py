"""8-bit weights on disk, so that a second start does not make them again.

A file beside the other caches, named after the content of the weights it was made from; it appears
whole or not at all, and a damaged one is made anew. Knows nothing of how they are used.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from pathlib import Path

from safetensors.torch import save_file

from app.engine.gpt_weights import quantise_state
from app.errors import ModelFileError
from app.files import atomic_path, sha256_of_file
from app.models.weights import State, read_state

#: Raised whenever the same weights would be rounded to other values.
_VERSION = 1

_log = logging.getLogger(__name__)


def int8_parts(state: State, weights: Path, cache_dir: Path | None) -> State:
    """Returns the quantised matrices of a model, from the cache where they are there.

    Args:
        state: the model's tensors by stock name.
        weights: the file they came from.
        cache_dir: where to keep them; None keeps them in memory only.
    """
    if cache_dir is None:
        return quantise_state(state)
    path = cache_dir / "int8" / f"{content_of(weights)}.safetensors"
    if path.is_file():
        try:
            return read_state(path)
        except ModelFileError as error:
            _log.warning("%s; it is made again", error.message)
    parts = quantise_state(state)
    try:
        with atomic_path(path) as part:
            save_file(parts, part)
    except OSError as error:
        _log.warning("8-bit weights can't be kept in %s (%s)", path.parent, error.strerror)
        return parts
    # mapped from the file, they take no memory of their own
    return read_state(path)


def content_of(weights: Path) -> str:
    """Returns a name that changes with a file's content and with how it is quantised.

    Torch's zip files carry a checksum of each tensor, which spares reading the rest of them.
    """
    digest = hashlib.sha256(f"{_VERSION}".encode())
    sums = _zip_checksums(weights)
    digest.update((sums or sha256_of_file(weights)).encode())
    return digest.hexdigest()


def _zip_checksums(path: Path) -> str:
    """Returns names, sizes and CRCs of a zip's entries; empty where there are none."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()]
    # torch can be told to leave the sums out
    return str(entries) if any(crc for _, _, crc in entries) else ""
