"""Arrays of many clips in few files that can be mapped into memory.

A shard is a safetensors file named by the hash of its content; it appears whole or not at all.
Each clip in it has three arrays and a checksum of its own, so that damage is found clip by clip.
Needs no torch.
"""

from __future__ import annotations

import errno
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from app.errors import InputError, SettingsError
from app.files import sha256_of_bytes, write_atomic

SUFFIX = ".safetensors"
_ARRAYS = ("codes", "style_mel", "code_mel")
_DTYPES = {"I16": np.dtype("<i2"), "F16": np.dtype("<f2")}
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True, eq=False)
class ClipArrays:
    """All that is stored of a clip.

    `codes` are int16 [num_codes]; `style_mel` and `code_mel` float16 log-mels [frames, 80] of the
    conditioning encoder and the DVAE, not divided by `mel_stats`; `num_samples` is at 22.05 kHz.
    """

    codes: npt.NDArray[np.int16]
    style_mel: npt.NDArray[np.float16]
    code_mel: npt.NDArray[np.float16]
    num_samples: int

    @property
    def num_bytes(self) -> int:
        """Bytes on disk, about."""
        return self.codes.nbytes + self.style_mel.nbytes + self.code_mel.nbytes

    @property
    def checksum(self) -> int:
        """CRC-32 of the three arrays in a row."""
        total = 0
        for array in (self.codes, self.style_mel, self.code_mel):
            total = zlib.crc32(np.ascontiguousarray(array).data, total)
        return total


class Shard:
    """One file, mapped when it is first read. It may be pickled; the map stays behind."""

    def __init__(self, path: Path) -> None:
        """Reads the header.

        Raises:
            InputError: the file is damaged or cut short.
        """
        self.path = path
        try:
            self._start, self._layout, self._entries = _read_header(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"the cache file {path} is damaged ({error}); run prepare again.",
                code="cache_damaged",
            ) from error

    @property
    def keys(self) -> Iterator[str]:
        """The clips in it."""
        return iter(self._entries)

    def read(self, key: str) -> ClipArrays:
        """Returns a clip's arrays as views into the mapped file; nothing is checked.

        Raises:
            KeyError: it is not in here.
        """
        entry = self._entries[key]
        codes, style_mel, code_mel = (self._array(f"{key}.{name}") for name in _ARRAYS)
        return ClipArrays(codes, style_mel, code_mel, int(entry["num_samples"]))

    def is_whole(self, key: str) -> bool:
        """Compares a clip's arrays with their checksum."""
        try:
            return self.read(key).checksum == int(self._entries[key]["crc32"])
        except (ValueError, KeyError, IndexError, OSError):
            return False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_content"}

    @cached_property
    def _content(self) -> npt.NDArray[np.uint8]:
        return np.memmap(self.path, np.uint8, "r")

    def _array(self, name: str) -> npt.NDArray[Any]:
        place = self._layout[name]
        first, last = (self._start + offset for offset in place["data_offsets"])
        flat: npt.NDArray[Any] = self._content[first:last].view(_DTYPES[place["dtype"]])
        shaped: npt.NDArray[Any] = flat.reshape(place["shape"])
        return shaped


def write_shard(folder: Path, clips: Mapping[str, ClipArrays]) -> Path:
    """Writes clips by key into a new file of the folder.

    Raises:
        SettingsError: the disk is full or the folder can't be written to.
    """
    tensors = {
        f"{key}.{name}": getattr(arrays, name) for key, arrays in clips.items() for name in _ARRAYS
    }
    entries = {
        key: json.dumps({"crc32": arrays.checksum, "num_samples": arrays.num_samples})
        for key, arrays in clips.items()
    }
    content = save(tensors, metadata=entries)
    path = folder / f"{sha256_of_bytes(content)[:24]}{SUFFIX}"
    try:
        write_atomic(path, content)
    except OSError as error:
        remedy = "free some space" if error.errno == errno.ENOSPC else "check its rights"
        raise SettingsError(
            f"TRAIN_CACHE_DIR: {path.parent} can't be written to ({error.strerror}); {remedy}, or "
            "name another folder. What was written before is kept.",
            param="TRAIN_CACHE_DIR",
        ) from error
    return path


def _read_header(path: Path) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Returns where the data begins, where each array lies in it, and the clips' entries.

    The layout is that of safetensors: eight bytes of length, JSON, data.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError("its header has an impossible length")
        layout = json.loads(stream.read(length))
    entries = {key: json.loads(entry) for key, entry in layout.pop("__metadata__").items()}
    end = max((place["data_offsets"][1] for place in layout.values()), default=0)
    if path.stat().st_size != 8 + length + end:
        raise ValueError("its length is wrong")
    return 8 + length, layout, entries
