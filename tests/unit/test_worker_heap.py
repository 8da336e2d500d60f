"""One heap for all threads of a worker, as glibc itself tells it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc has a heap for each thread"
)

_ALLOCATE = """
import ctypes, threading
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=libc.malloc, args=(5000,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
"""


def num_heaps(before: str) -> int:
    """Returns how many heaps a process has after its threads have allocated something."""
    told = subprocess.run(
        [sys.executable, "-c", before + _ALLOCATE], capture_output=True, text=True, check=True
    )
    return told.stderr.count("Arena ")


def test_threads_share_one_heap() -> None:
    assert num_heaps("") > 1, "as it is otherwise"
    share = "from app.worker.process import _share_one_heap; _share_one_heap()"
    assert num_heaps(share) == 1
