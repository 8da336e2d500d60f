"""Lets go of the memory that tensors mapped from a file take, while they stay usable.

Loading reads every page of a mapped file once, and a process keeps what it has read: beside packed
weights that would be a second copy. Linux drops the pages on request and fetches one again, from
its file cache, should it be read after all.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

_DONT_NEED = 4  # MADV_DONTNEED (madvise(2)), the same on all of Linux's platforms
_MAPS = Path("/proc/self/maps")


def release_pages(path: Path) -> None:
    """Gives back the pages of every mapping of a file; does nothing but on Linux.

    Nothing may have been written to them: `read_state` asks for that.
    """
    with suppress(OSError):  # there is no such list elsewhere
        lines = _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        libc = ctypes.CDLL(None, use_errno=True)
        name = str(path.resolve())
        for line in lines:
            addresses, _, mapped = line.partition(" ")
            if mapped.rstrip().endswith(f" {name}"):
                start, end = (int(part, 16) for part in addresses.split("-"))
                libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONT_NEED)
