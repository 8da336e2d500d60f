"""Which epochs are better than which, beyond what chance would give. Pure.

The same texts are spoken with the same seed in every epoch, so two epochs are compared text by
text: the mean of the differences, with twice its standard error as the margin. That margin is
small where both say the same texts well and others badly, as they do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from train.epochs.history import EpochRecord

LOSS = "loss"
#: Differences of the mean value below this are nothing anybody would hear.
_SMALLEST_MARGIN = 0.02
_STANDARD_ERRORS = 2.0

#: One text says nothing about how much texts differ.
LEAST_TEXTS = 2

Verdict = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class Comparison:
    """How one epoch differs from another: the difference of their values, give or take `margin`."""

    difference: float
    margin: float

    @property
    def verdict(self) -> Verdict:
        """`same` where the difference is within the margin."""
        if abs(self.difference) <= self.margin:
            return "same"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True)
class Best:
    """The best epoch so far and why it is."""

    epoch: int
    checkpoint: str
    reason: str


def compare(record: EpochRecord, other: EpochRecord) -> Comparison | None:
    """Compares the scores of two epochs; None where they have too few texts in common."""
    values = {text.name: text.value for text in other.texts}
    differences = [text.value - values[text.name] for text in record.texts if text.name in values]
    if len(differences) < LEAST_TEXTS:
        return None
    error = stdev(differences) / math.sqrt(len(differences))
    margin = max(_SMALLEST_MARGIN, _STANDARD_ERRORS * error)
    return Comparison(fmean(differences), margin)


def choose_best(epochs: Sequence[EpochRecord]) -> Best | None:
    """Returns the best epoch; None before the first has ended.

    Where all are scored: of those whose scores can't be told from the highest, the one with the
    lowest evaluation loss. Otherwise the lowest evaluation loss.
    """
    if not epochs:
        return None
    scored = [record for record in epochs if len(record.texts) >= LEAST_TEXTS]
    if not scored:
        best = min(epochs, key=loss_of)
        return Best(best.epoch, best.checkpoint, f"the lowest evaluation loss, {loss_of(best):.4f}")
    top = max(scored, key=lambda record: record.figures["value"])
    equals = [record for record in scored if record is top or _is_same(record, top)]
    best = min(equals, key=loss_of)
    others = f", of {len(equals)} epochs whose scores are as good" if len(equals) > 1 else ""
    reason = (
        f"the best scores (value {best.figures['value']:.3f})"
        if not others
        else f"the lowest evaluation loss, {loss_of(best):.4f}{others}"
    )
    return Best(best.epoch, best.checkpoint, reason)


def loss_of(record: EpochRecord) -> float:
    """Returns the evaluation loss; infinite where there is none, or none that is a number."""
    loss = record.eval_losses.get(LOSS, math.inf)
    return loss if math.isfinite(loss) else math.inf


def _is_same(record: EpochRecord, top: EpochRecord) -> bool:
    comparison = compare(record, top)
    return comparison is not None and comparison.verdict == "same"
