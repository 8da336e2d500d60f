"""How honest the time left is, on steps as they come: uneven, with evaluations between."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from training_runs import epoch_facts, run_plan, step_facts

from train.epochs.eta import Estimator, in_words


def steps_of(seed: int, num_epochs: int = 3, per_epoch: int = 40) -> list[tuple[float, float]]:
    """Seconds and audio seconds of steps whose batches differ sixfold, the first ones slow."""
    rng = random.Random(seed)
    steps = []
    for number in range(num_epochs * per_epoch):
        audio_s = rng.uniform(2, 12)
        noise = rng.lognormvariate(0, 0.15)
        steps.append((0.4 * audio_s * noise + (20 if number == 0 else 0), audio_s))
    return steps


def run(seed: int, after_s: float, *, eval_s: float = 6.0) -> tuple[float, float]:
    """Returns what was estimated when `after_s` had passed, and what was left in truth."""
    steps = steps_of(seed)
    total = sum(seconds for seconds, _ in steps) + 3 * eval_s
    plan = run_plan(Path("out"))
    audio = sum(audio_s for _, audio_s in steps) / 3
    plan = replace(plan, audio_s_per_epoch=audio, steps_per_epoch=40, clips_train=20, clips_eval=1)
    estimator = Estimator(plan)
    passed = 0.0
    for number, (seconds, audio_s) in enumerate(steps, start=1):
        passed += seconds
        estimator.step_done(step_facts(number, seconds=seconds, audio_s=audio_s))
        if number % 40 == 0:
            passed += eval_s
            facts = epoch_facts(number // 40, Path("x"))
            estimator.epoch_done(replace(facts, eval_seconds=eval_s - 1, save_seconds=1.0))
        if passed >= after_s and (left := estimator.remaining().seconds) is not None:
            return left, total - passed
    raise AssertionError("never estimated")


@pytest.mark.parametrize("seed", range(12))
def test_it_is_within_a_fifth_after_a_minute(seed: int) -> None:
    estimated, truth = run(seed, 60.0)
    assert estimated == pytest.approx(truth, rel=0.2)


@pytest.mark.parametrize("seed", range(6))
def test_it_gets_better(seed: int) -> None:
    estimated, truth = run(seed, 200.0)
    assert estimated == pytest.approx(truth, rel=0.1)


def test_it_says_that_it_does_not_know_yet() -> None:
    estimator = Estimator(run_plan(Path("out")))
    assert estimator.remaining().text == "estimating"
    estimator.step_done(step_facts(1, seconds=60.0))  # a slow first step says nothing
    assert estimator.remaining().seconds is None
    assert estimator.audio_rate is None
    for step in range(2, 12):
        estimator.step_done(step_facts(step, seconds=2.0))
    assert estimator.remaining().seconds is not None
    assert estimator.audio_rate == pytest.approx(5.0)


def test_a_resumed_run_counts_what_is_left_only() -> None:
    estimator = Estimator(run_plan(Path("out"), first_step=25))
    for step in range(26, 30):
        estimator.step_done(step_facts(step, seconds=4.0))
    for step in (30, 31):  # to have measured enough
        estimator.step_done(step_facts(step, seconds=4.0, audio_s=0.001))
    left = estimator.remaining().seconds
    assert left is None or left < 40


def test_the_end_is_zero() -> None:
    estimator = Estimator(run_plan(Path("out"), num_epochs=1))
    for step in range(1, 11):
        estimator.step_done(step_facts(step, seconds=4.0))
    estimator.epoch_done(epoch_facts(1, Path("x")))
    assert estimator.remaining().seconds == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (45, "45 s"), (89, "89 s"), (600, "10 min"), (12000, "3 h 20 min")],
)
def test_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_in_words_of_days() -> None:
    assert in_words(3 * 86400 + 4 * 3600) == "3 days 4 h"
