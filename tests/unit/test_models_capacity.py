"""How many rows a model gets where nobody says, and what their caches may take."""

from __future__ import annotations

import pytest

from app.devices.place_order import RowsOrder
from app.models.capacity import (
    CPU_CACHE_BYTES,
    ROWS,
    Capacity,
    Rows,
    choose_capacity,
    wanted_rows,
)
from app.models.footprint import Footprint, place_of
from app.settings import Settings

GB = 10**9
#: As XTTS-v2 in half precision.
NEED = Footprint(loaded_bytes=round(1.5 * GB), row_bytes=round(0.15 * GB), work_bytes=GB // 4)


def settings(**fields: object) -> Settings:
    return Settings(_env_file=None, **fields)


def test_a_cpu_has_what_it_always_had() -> None:
    assert choose_capacity(settings(), "cpu", need=NEED, free_bytes=GB) == Capacity(
        Rows(16, "the default on a CPU"), 1_536_000_000, "the default on a CPU"
    )
    assert wanted_rows(settings(), "cpu", NEED, GB) == Rows(16, "the default on a CPU")


def test_a_gpu_has_more_and_counts_them_at_their_longest() -> None:
    capacity = choose_capacity(settings(), "gpu")
    assert capacity.rows == Rows(64, "the default on a GPU")
    assert capacity.cache_bytes is None
    rows, caches = capacity.routes()
    assert (rows.name, rows.choice, rows.reason) == ("rows", "64", "the default on a GPU")
    assert (caches.name, caches.choice) == ("caches", "no limit")
    assert choose_capacity(settings(), "cpu").routes()[1].choice == "1536 MB"


def test_more_rows_than_a_cpus_leave_half_of_the_card_to_another_model() -> None:
    def found(card_gb: float) -> int:
        rows = wanted_rows(settings(), "gpu", NEED, round(card_gb * GB))
        assert ("half of the budget" in rows.reason) == (rows.most < ROWS["gpu"])
        assert rows.most == ROWS["cpu"] or NEED.total(rows.most) <= card_gb / 2 * GB
        return rows.most

    assert [found(gb) for gb in (72, 21.6, 10.8, 7.2)] == [64, 60, 24, 16]
    assert wanted_rows(settings(), "gpu", NEED, None) == Rows(64, "the default on a GPU")


@pytest.mark.parametrize("place", ["cpu", "gpu"])
def test_a_persons_numbers_win(place: str) -> None:
    given = settings(max_batch_rows=200, cache_budget_mb=10)
    assert wanted_rows(given, place, NEED, 8 * GB) == Rows(200, "MAX_BATCH_ROWS")
    capacity = choose_capacity(given, place, need=NEED, free_bytes=GB)
    assert capacity == Capacity(Rows(200, "MAX_BATCH_ROWS"), 10_000_000, "CACHE_BUDGET_MB")


def test_what_was_counted_is_obeyed_where_it_was_counted() -> None:
    order = RowsOrder("gpu", 5, "what the card leaves room for")
    for chosen in (settings(), settings(max_batch_rows=40)):
        assert choose_capacity(chosen, "gpu", order=order).rows == Rows(5, order.reason)
    # the worker moved to the CPU, or came back from it
    assert choose_capacity(settings(), "cpu", order=order).rows.most == ROWS["cpu"]
    assert choose_capacity(settings(max_batch_rows=40), "cpu", order=order).rows.most == 40
    order = RowsOrder("cpu", 16, "the default on a CPU")
    assert choose_capacity(settings(), "gpu", order=order).rows.most == ROWS["gpu"]


def test_without_anybody_who_counted_the_free_memory_decides() -> None:
    rows = choose_capacity(settings(), "gpu", need=NEED, free_bytes=round(3.3 * GB)).rows
    assert rows == Rows(20, "what 3.3 GB of free memory leave room for")
    assert choose_capacity(settings(), "gpu", need=NEED, free_bytes=70 * GB).rows.most == 64
    # with less than one row asks for, it is tried all the same
    assert choose_capacity(settings(), "gpu", need=NEED, free_bytes=0).rows.most == 1
    order = RowsOrder("gpu", 64, "the card's memory is not known")
    crowded = choose_capacity(settings(), "gpu", order=order, need=NEED, free_bytes=round(3.3 * GB))
    assert crowded.rows.most == 20


def test_places_of_devices() -> None:
    assert [place_of(name) for name in ("cpu", "cuda:0", "mps")] == ["cpu", "gpu", "gpu"]
    assert CPU_CACHE_BYTES == 1536e6
