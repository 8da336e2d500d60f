"""What is advised, by losses and scores that leave no doubt, and by those that do."""

from __future__ import annotations

import pytest
from training_runs import PASSED, text_score

from train.epochs.advice import advise
from train.epochs.history import EpochRecord
from train.epochs.judge import choose_best, compare

VALUES = (0.1, 0.5, 0.3, 0.7, -0.2, 0.4)


def record(epoch: int, loss: float = 4.0, gain: float | None = None) -> EpochRecord:
    """An epoch whose every text is `gain` better than the starting model's."""
    texts = ()
    if gain is not None:
        texts = tuple(text_score(f"t{i}", v + gain) for i, v in enumerate(VALUES))
    figures = {"value": sum(t.value for t in texts) / len(texts)} if texts else {}
    losses = {"loss": loss} if epoch else {}
    return EpochRecord(
        epoch, epoch * 10, f"checkpoint_epoch_{epoch}.pt", {}, losses, 1, PASSED, texts, figures
    )


def test_gains_beyond_the_margin_count_and_others_do_not() -> None:
    base = record(0, gain=0.0)
    for gain, verdict in ((0.1, "better"), (-0.1, "worse"), (0.01, "same")):
        comparison = compare(record(1, gain=gain), base)
        assert comparison is not None
        assert comparison.verdict == verdict
        assert comparison.difference == pytest.approx(gain)


def test_a_gain_in_one_text_of_many_is_chance() -> None:
    base = record(0, gain=0.0)
    lucky = tuple(text_score(f"t{i}", v + (0.6 if i == 0 else 0.0)) for i, v in enumerate(VALUES))
    comparison = compare(EpochRecord(1, 10, texts=lucky), base)
    assert comparison is not None
    assert comparison.verdict == "same"


def test_other_texts_are_not_compared() -> None:
    assert compare(EpochRecord(1, 10, texts=(text_score("x", 1.0),)), record(0, gain=0.0)) is None


def test_better_since() -> None:
    epochs = [record(1, 4.0, 0.0), record(2, 3.8, 0.1), record(3, 3.6, 0.2)]
    advice = advise(record(0, gain=0.0), epochs, 5)
    assert (advice.verdict, advice.since, advice.stop) == ("better", 2, False)
    assert "better than the starting model since epoch 2" in advice.text
    assert "its lowest so far" in advice.text
    assert "Best so far: epoch 3" in advice.text


def test_worse_for_two_epochs_means_stop() -> None:
    epochs = [record(1, 4.0, 0.0), record(2, 3.9, -0.1), record(3, 3.8, -0.1)]
    advice = advise(record(0, gain=0.0), epochs, 5)
    assert (advice.verdict, advice.since, advice.stop) == ("worse", 2, True)
    assert "Stop now" in advice.text
    assert "LEARNING_RATE" in advice.text
    assert not advise(record(0, gain=0.0), epochs[:2], 5).stop


def test_epochs_that_were_not_listened_to_yet_are_passed_over() -> None:
    epochs = [record(1, 4.0, 0.1), record(2, 3.8, 0.1), record(3, 3.6)]
    advice = advise(record(0, gain=0.0), epochs, 5)
    assert (advice.verdict, advice.since) == ("better", 1)
    worse = [record(1, 4.0, 0.0), record(2, 3.8, -0.1), record(3, 3.6)]
    assert not advise(record(0, gain=0.0), worse, 5).stop  # one epoch spoke worse, not two


def test_rising_loss_means_stop_even_without_scores() -> None:
    epochs = [record(1, 4.0), record(2, 3.5), record(3, 3.6), record(4, 3.7)]
    advice = advise(None, epochs, 10)
    assert (advice.verdict, advice.stop) == (None, True)
    assert "above its lowest, 3.5000 in epoch 2, for 2 epochs" in advice.text
    assert "by heart" in advice.text
    assert "Best so far: epoch 2" in advice.text
    assert not advise(None, epochs[:3], 10).stop


def test_swings_within_the_margin_are_no_rise() -> None:
    epochs = [record(1, 3.5), record(2, 3.505), record(3, 3.51), record(4, 3.505)]
    advice = advise(None, epochs, 10)
    assert not advice.stop
    assert "stopping costs nothing" in advice.text


def test_nothing_to_stop_at_the_end() -> None:
    epochs = [record(1, 3.5), record(2, 3.6), record(3, 3.7)]
    assert "Stop now" not in advise(None, epochs, 3).text


def test_the_best_is_the_one_of_lowest_loss_among_equals() -> None:
    epochs = [record(1, 4.0, 0.30), record(2, 3.8, 0.305), record(3, 3.6, -0.3)]
    best = choose_best(epochs)
    assert best is not None
    assert (best.epoch, best.checkpoint) == (2, "checkpoint_epoch_2.pt")
    assert choose_best([]) is None


def test_a_loss_that_is_none_is_never_the_best() -> None:
    best = choose_best([record(1, float("nan")), record(2, 9.0)])
    assert best is not None
    assert best.epoch == 2
