"""What is free within the heap goes back to the system."""

from __future__ import annotations

import platform

import psutil
import pytest
import torch

from app.synthesis.memory import give_back


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can give pages back")
def test_free_pages_below_used_ones_are_given_back() -> None:
    kept, freed = [], []
    for _ in range(1000):  # 100 KB each, so within the heap, where every other one stays
        freed.append(torch.ones(25_000))
        kept.append(torch.ones(250))
    freed.clear()
    before = resident()
    give_back(torch.device("cpu"))
    assert before - resident() > 60e6
    assert all(float(part.sum()) == 250 for part in kept)
