"""Recorded steps and prefills on a real NVIDIA card, at XTTS-v2's sizes; skipped without one."""

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


#: `dtype`, and how far apart its numbers may be.
FORMATS = [("float32", 1e-3), ("bfloat16", 5e-2)]
#: Text tokens of a prefill, one for each padded length: none at all as guided rows have it.
TEXT_LENGTHS = (0, 50, 90, 150, 200, 300, 401)


def measure_on_card(code: str) -> Any:
    """Returns what the code left in `result`, from a child; it may use all of `graph_card`."""
    prepared = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from dataclasses import asdict
import torch
from graph_card import XTTS, compare, compare_prefills
{code}
"""
    return on_gpu(prepared, 300)


def compare_on_card(dtype: str, num_rows: int) -> dict[str, Any]:
    """Returns `graph_card.compare`'s findings."""
    found: dict[str, Any] = measure_on_card(
        f"result = asdict(compare(XTTS, torch.{dtype}, 'cuda', {num_rows}, 40))"
    )
    return found


def prefill_on_card(dtype: str, lengths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Returns `graph_card.compare_prefills`' findings for texts of each length."""
    found: list[dict[str, Any]] = measure_on_card(
        f"result = [asdict(compare_prefills(XTTS, torch.{dtype}, 'cuda', num, 12))"
        f" for num in {lengths}]"
    )
    return found


def assert_near(found: dict[str, Any], allowed: float) -> None:
    assert found["distrusted"] == {}
    assert found["num_graphs"] >= 1
    assert found["replayed_apart"] < allowed
    assert found["plain_apart"] < allowed


@pytest.mark.parametrize("num_rows", [1, 4, 16, 64])
@pytest.mark.parametrize(("dtype", "allowed"), FORMATS)
def test_replayed_steps_are_the_steps(dtype: str, allowed: float, num_rows: int) -> None:
    found = compare_on_card(dtype, num_rows)
    print(dtype, num_rows, found)  # the times are for whoever reads
    assert_near(found, allowed)


@pytest.mark.parametrize(("dtype", "allowed"), FORMATS)
def test_replayed_prefills_are_the_prefills(dtype: str, allowed: float) -> None:
    for num_text, found in zip(TEXT_LENGTHS, prefill_on_card(dtype, TEXT_LENGTHS), strict=True):
        print(dtype, num_text, found)
        assert_near(found, allowed)


def test_one_row_is_faster_replayed() -> None:
    found = compare_on_card("bfloat16", 1)
    print(found)
    assert found["replayed_s"] < found["as_they_are_s"]


def test_a_sentences_prefill_is_faster_replayed() -> None:
    (found,) = prefill_on_card("bfloat16", (50,))
    print(found)
    assert found["replayed_s"] < found["as_they_are_s"]
