"""How honest the time left is, on steps as they come: uneven, with evaluations between."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from training_runs import epoch_facts, run_plan, step_facts

from train.epochs.eta import Estimator, in_words

#: Recorded: 200 clips by three epochs on two busy cores. Each epoch's (seconds, audio seconds) of
#: five steps each, and the seconds of its evaluation and saving. Other work slowed the third one.
RECORDED = (
    (
        ((14.9, 63.3), (11.7, 61.7), (12.3, 65.2), (10.3, 64.8), (11.1, 64.1), (13.1, 69.1)),
        ((7.5, 62.1), (7.3, 60.5), (9.2, 67.1), (3.2, 26.3)),
        9.0,
    ),
    (
        ((10.1, 74.2), (9.8, 68.9), (11.4, 66.1), (8.3, 54.7), (11.3, 67.6), (12.3, 65.1)),
        ((9.4, 61.5), (12.3, 67.7), (13.0, 65.9), (3.0, 24.8)),
        12.0,
    ),
    (
        ((16.0, 69.9), (14.3, 61.9), (12.8, 64.2), (12.5, 61.8), (13.8, 69.3), (14.2, 68.4)),
        ((11.4, 54.7), (15.1, 70.9), (16.4, 66.5), (4.3, 24.4)),
        21.4,
    ),
)


def test_it_is_honest_about_a_recorded_run() -> None:
    plan = replace(
        run_plan(Path("out")),
        steps_per_epoch=10,
        audio_s_per_epoch=610.0,
        clips_train=200,
        clips_eval=78,
    )
    epochs = [((*first, *second), extra_s) for first, second, extra_s in RECORDED]
    total_s = sum(sum(s for s, _ in steps) + extra_s for steps, extra_s in epochs)
    estimator = Estimator(plan)
    passed_s, number = 0.0, 0
    for epoch, (steps, extra_s) in enumerate(epochs, start=1):
        for seconds, audio_s in steps:
            number += 1
            passed_s += seconds
            estimator.step_done(step_facts(number, seconds=seconds, audio_s=audio_s))
            left_s = estimator.remaining().seconds
            if passed_s > 60:  # nobody can know of the other work that came later
                assert left_s == pytest.approx(total_s - passed_s, rel=0.3, abs=15), passed_s
        passed_s += extra_s
        facts = epoch_facts(epoch, Path("x"))
        estimator.epoch_done(replace(facts, eval_seconds=extra_s - 0.8, save_seconds=0.8))
    assert estimator.remaining().seconds == 0


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
