"""The page on the GPU stack names only tests that exist, every verdict and every fault tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from test_devices_probe_faults import CASES

from app.devices.benches import LOSS_WINDOW_S, MAX_DOUBLINGS, MAX_LOSSES, REVIEW_AFTER_S
from app.devices.operations import DFT_LIMIT, DTYPE_LIMITS, FFT_LIMIT, STFT_SHAPES, WORK_STAGES
from app.devices.report import Verdict
from app.settings import Settings
from app.supervisor.recovery import IDLE_S
from app.synthesis.pressure import GROW_AFTER_S

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parents[1] / "docs" / "gpu-stack.md").read_text(encoding="utf-8")


def test_every_test_named_exists() -> None:
    defined = {
        name
        for path in TESTS.parent.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)
    }
    named = set(re.findall(r"`(test_\w+)", PAGE))
    assert len(named) > 5
    assert named <= defined


def test_numbers_of_the_service_are_those_of_the_code() -> None:
    assert Settings.model_fields["stall_timeout_s"].default == 120
    assert "`STALL_TIMEOUT_S` (120 s)" in PAGE
    assert (MAX_LOSSES, LOSS_WINDOW_S, REVIEW_AFTER_S, GROW_AFTER_S) == (3, 600, 600, 600)
    assert "three workers lost on one device in ten minutes" in PAGE
    assert f"to {REVIEW_AFTER_S * 2**MAX_DOUBLINGS / 60:.0f} minutes at most" in PAGE
    assert f"for anything for {IDLE_S:.0f} s" in PAGE


def test_every_fault_that_is_tried_has_its_row_and_verdict() -> None:
    rows = {
        fault: row
        for row in PAGE.splitlines()
        for fault in re.findall(r"leaves_nobody\[(\w+)\]", row)
    }
    assert set(rows) == set(CASES)
    for fault, case in CASES.items():
        assert f"`{case.verdict}`" in rows[fault], fault
        if not case.remembered and case.verdict == "gpu_dead":
            assert "not remembered" in rows[fault]


def test_every_verdict_is_on_the_page() -> None:
    assert [verdict for verdict in get_args(Verdict) if f"`{verdict}`" not in PAGE] == []


def test_numbers_on_the_page_are_those_of_the_code() -> None:
    for shape in STFT_SHAPES:
        assert f"{shape.n_fft}/{shape.win_length}/{shape.hop_length}" in PAGE
    for stage in WORK_STAGES:
        assert f"`{stage}`" in PAGE
    assert list(DTYPE_LIMITS.values()) == [5e-3, 6e-2, 1e-2]
    assert "5e-3, 6e-2 and 1e-2" in PAGE
    assert (DFT_LIMIT, FFT_LIMIT) == (1e-4, 1e-3)
    assert "within 1e-4" in PAGE
    assert "within 1e-3" in PAGE
