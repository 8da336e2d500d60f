"""What `check` says of training when the trainer answers, refuses, hangs or dies."""

from __future__ import annotations

import pytest

from app.commands.training_cost import read_answer
from app.isolation import ChildResult


def child(**changes: object) -> ChildResult:
    fields = {
        "returncode": 0,
        "stdout": 'Training builtin: …\n{"words": "18 min for an hour of clips"}\n',
        "stderr": "",
        "timed_out": False,
        "signal": None,
        "duration_s": 5.0,
    }
    return ChildResult(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (child(), "18 min for an hour of clips"),
        (child(returncode=2, stderr="log\nthis model is an XTTS v1.\n"), "not known: this model"),
        (child(returncode=-9, timed_out=True, signal=9), "not known: a few steps took more than"),
        (child(returncode=-11, signal=11), "not known: the trainer died of SIGSEGV"),
    ],
)
def test_every_end_of_the_trainer_has_its_words(answer: ChildResult, words: str) -> None:
    assert read_answer(answer).startswith(words)
