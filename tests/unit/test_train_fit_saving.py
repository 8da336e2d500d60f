"""When a state is saved: by the clock, and after an epoch unless it takes long beside it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from train.fit import saving
from train.fit.saving import Saver
from train.fit.state import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(saving.time, "monotonic", lambda: now.s)
    return now


def saver_of(save_every_min: float) -> Saver:
    """Returns one that is asked when, and never saves."""
    setup = SimpleNamespace(options=SimpleNamespace(save_every_min=save_every_min, lora_rank=0))
    nothing = cast(Any, None)
    return Saver(cast(Any, setup), nothing, nothing, nothing, Progress(step=7))


def test_after_an_epoch_it_saves_when_that_takes_a_fiftieth_of_the_time(
    clock: SimpleNamespace,
) -> None:
    saver = saver_of(15)
    # the checkpoint took a second, so the state is reckoned to take two
    saver.epoch_file_written(Path("checkpoint_epoch_1.pt"), "0" * 64, 1.0)
    clock.s += 99
    assert not saver.is_due(at_epoch_end=True)
    clock.s += 2
    assert saver.is_due(at_epoch_end=True)
    assert not saver.is_due()


def test_the_clock_saves_whatever_it_takes(clock: SimpleNamespace) -> None:
    saver = saver_of(15)
    saver.epoch_file_written(Path("checkpoint_epoch_1.pt"), "0" * 64, 60.0)
    clock.s += 15 * 60 + 1
    assert saver.is_due()
    assert saver.is_due(at_epoch_end=True)
