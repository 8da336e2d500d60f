"""The memory of each stage: the most while it went on, and nothing of what came before."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from app.synthesis import stages
from app.synthesis.stages import StageMeter, high_water_bytes

CPU = torch.device("cpu")
LARGE = 256 << 20


def test_a_stage_is_charged_with_its_own_peak() -> None:
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the kernel's mark can't be set back here")
    meter = StageMeter(CPU)
    before = psutil.Process().memory_info().rss
    assert meter.peaks["load"] >= before - LARGE // 4
    with meter("conditioning"):
        np.ones(LARGE, dtype=np.uint8)  # touched, and gone before the stage ends
    with meter("prefill"):
        pass
    assert meter.peaks["conditioning"] >= before + LARGE * 3 // 4
    assert meter.peaks["prefill"] <= before + LARGE // 4
    with meter("conditioning"):
        pass
    assert meter.peaks["conditioning"] >= before + LARGE * 3 // 4  # the most there ever was


def test_stages_that_come_by_the_hundred_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    monkeypatch.setattr(stages, "high_water_bytes", lambda: asked.append(None) or 1)
    meter = StageMeter(CPU)
    asked.clear()
    for _ in range(128):
        with meter("decode"):
            pass
    assert len(asked) == 2 * (8 + 3 + 1)  # the first eight, then the 32nd, 64th, 96th and 128th
    asked.clear()
    for _ in range(20):
        with meter("prefill"):
            pass
    assert len(asked) == 40


def test_where_the_system_does_not_tell_nothing_is_claimed(tmp_path: Path) -> None:
    assert high_water_bytes(tmp_path) == 0
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t    2048 kB\n")
    assert high_water_bytes(tmp_path) == 2 << 20
