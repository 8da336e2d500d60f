"""How fast a server on a real NVIDIA card is, beside stock coqui-tts on it; skipped without one.

A model of XTTS-v2's full shape under the load of 1 and of 64 clients, and stock with the same
sentences on the same weights in the same run: `make bench` in small. The goals are for a card with
the memory bandwidth of an H100.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import pytest

from app.devices import hardware
from benchmarks.full_shape import VOICE, write_bundle
from benchmarks.load import Plan, bench_beside_stock, describe_floor
from benchmarks.stock import Stock
from benchmarks.tables import print_table

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not hardware.nvidia_gpus(), reason="no NVIDIA GPU in this machine"),
]

ONE, MANY = 1, 64
TOKENS = 64


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the load found; every number of clients and stock in turn, three times."""
    folder = tmp_path_factory.mktemp("load")
    bundle = write_bundle(folder / f"full-shape-{TOKENS}", TOKENS)
    plan = Plan((ONE, MANY), per_client=4, runs=3, stock_clients=())
    told = bench_beside_stock(folder / "server", bundle, VOICE, plan, partial(Stock.load, bundle))
    print_table("full shape", told["rows"])
    print_table("stock coqui-tts", told["stock_rows"])
    sys.stdout.write(f"{told['device']}, {told['precision']}, {describe_floor(told)}\n")
    return told


@pytest.fixture(scope="module")
def one(found: dict[str, Any]) -> dict[str, Any]:
    return next(row for row in found["rows"] if row["clients"] == ONE)


@pytest.fixture(scope="module")
def many(found: dict[str, Any]) -> dict[str, Any]:
    return next(row for row in found["rows"] if row["clients"] == MANY)


def test_it_was_the_card_and_nothing_failed(found: dict[str, Any]) -> None:
    assert found["device"].startswith("cuda")
    assert found["max_rows"] == MANY
    assert [row["failures"] for row in (*found["rows"], *found["stock_rows"])] == [0] * 4
    assert found["stock_card_mb"] > 1000  # stock was on the card, too
    assert all(row["card_mb"] > 0 for row in found["rows"])


def test_one_request_takes_a_fiftieth_of_its_audio(one: dict[str, Any]) -> None:
    assert one["request_s_per_audio_s"] <= 0.02


def test_the_first_audio_is_there_at_once(one: dict[str, Any]) -> None:
    assert one["first_audio_p50_s"] <= 0.080


def test_64_at_once_get_300_seconds_of_audio_a_second(many: dict[str, Any]) -> None:
    assert many["audio_s_per_s"] >= 300


def test_stock_is_slower_in_the_same_run(found: dict[str, Any]) -> None:
    ratios = found["ratios"]
    assert ratios[f"throughput_over_stock_whole_at_{ONE}"] > 1
    assert ratios[f"throughput_over_stock_streamed_at_{ONE}"] > 1
    assert ratios[f"throughput_over_stock_whole_at_{MANY}"] > 20
    assert ratios["first_audio_over_stock"] < 1
