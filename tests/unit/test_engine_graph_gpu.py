"""Recorded steps on a real NVIDIA card, at XTTS-v2's sizes; skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gpu_card import on_gpu

from app.devices import hardware

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not hardware.nvidia_gpus(), reason="no NVIDIA GPU in this machine"),
]

ROOT = Path(__file__).resolve().parents[2]


def compare_on_card(dtype: str, num_rows: int) -> dict[str, Any]:
    """Returns `graph_card.compare`'s findings, from a child."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import dataclasses
import torch
from graph_card import XTTS, compare
result = dataclasses.asdict(compare(XTTS, torch.{dtype}, 'cuda', {num_rows}, 40))
"""
    found: dict[str, Any] = on_gpu(code, 300)
    return found


@pytest.mark.parametrize("num_rows", [1, 4, 16, 64])
@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 1e-3), ("bfloat16", 5e-2)])
def test_replayed_steps_are_the_steps(dtype: str, allowed: float, num_rows: int) -> None:
    found = compare_on_card(dtype, num_rows)
    print(dtype, num_rows, found)  # the times are for whoever reads
    assert found["distrusted"] == ""
    assert found["num_graphs"] >= 1
    assert found["replayed_apart"] < allowed
    assert found["plain_apart"] < allowed


def test_one_row_is_faster_replayed() -> None:
    found = compare_on_card("bfloat16", 1)
    print(found)
    assert found["replayed_s"] < found["as_they_are_s"]
