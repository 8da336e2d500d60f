"""Batches by length: each clip once, within the budget, the same for the same seed and epoch."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import SettingsError
from train.data.batches import BatchSampler, padding_share, plan_epoch

LENGTHS = np.random.default_rng(0).integers(40, 400, 500).tolist()


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.integers(1, 500), max_size=80),
    budget=st.integers(50, 3000),
    epoch=st.integers(0, 5),
    max_rows=st.integers(0, 6),
)
def test_each_clip_once_and_within_the_budget(
    lengths: list[int], budget: int, epoch: int, max_rows: int
) -> None:
    plan = plan_epoch(lengths, max_positions=budget, seed=1, epoch=epoch, max_rows=max_rows)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
        assert not max_rows or len(batch) <= max_rows


def test_little_padding_and_another_mixture_every_epoch() -> None:
    plans = [plan_epoch(LENGTHS, max_positions=4000, seed=1, epoch=e) for e in range(3)]
    assert all(padding_share(plan, LENGTHS) < 0.06 for plan in plans)
    together = [{frozenset(batch) for batch in plan} for plan in plans]
    assert len(together[0] & together[1]) < len(plans[0]) / 4
    longest = [max(LENGTHS[i] for i in batch) for batch in plans[0]]
    assert longest != sorted(longest)


def test_the_plan_depends_on_seed_and_epoch_alone() -> None:
    once = plan_epoch(LENGTHS, max_positions=4000, seed=1, epoch=2)
    assert once == plan_epoch(LENGTHS, max_positions=4000, seed=1, epoch=2)
    assert once != plan_epoch(LENGTHS, max_positions=4000, seed=2, epoch=2)


def test_a_resumed_sampler_goes_on_where_it_was() -> None:
    def fresh() -> BatchSampler:
        return BatchSampler(LENGTHS, max_positions=4000, seed=3)

    def walk(sampler: BatchSampler, num: int) -> list[tuple[int, ...]]:
        seen = []
        for _ in range(num):
            seen.append(next(iter(sampler)))
            sampler.mark_done()
        return seen

    whole = walk(fresh(), 100)
    for stop in (0, 1, fresh().num_batches, 73):
        first, second = fresh(), fresh()
        seen = walk(first, stop)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert seen + walk(second, 100 - stop) == whole


def test_reading_ahead_does_not_move_the_position() -> None:
    sampler = BatchSampler(LENGTHS, max_positions=4000, seed=3)
    ahead = list(sampler)
    assert len(ahead) == len(sampler) == sampler.num_batches
    assert sampler.state_dict()["num_done"] == 0
    sampler.mark_done(2)
    assert list(sampler) == ahead[2:]
    assert sampler.padding_share < 0.06


def test_a_position_in_other_data_is_refused() -> None:
    state = BatchSampler(LENGTHS, max_positions=4000, seed=3).state_dict()
    for other in (
        BatchSampler(LENGTHS[1:], max_positions=4000, seed=3),
        BatchSampler(LENGTHS, max_positions=5000, seed=3),
        BatchSampler(LENGTHS, max_positions=4000, seed=4),
    ):
        with pytest.raises(SettingsError, match="can't go on in the middle"):
            other.load_state_dict(state)
