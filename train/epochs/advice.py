"""What to do, in words, after every epoch and at the end. Pure.

Two things speak: the evaluation loss, which is measured on all held-out clips and hardly swings,
and the scores of what the checkpoint says, which are what counts and swing a lot. Loss alone is a
bad judge of a voice: it goes on falling while what is heard gets worse (arXiv 2603.10904).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from train.epochs.history import EpochRecord
from train.epochs.judge import Verdict, choose_best, compare, loss_of

#: Share of the lowest evaluation loss by which a loss must differ to count as another: between
#: seeds of the same run it swings by a few tenths of a per cent.
_LOSS_MARGIN = 0.005
#: Epochs in a row that must speak the same way before a run is to be stopped.
_PATIENCE = 2


@dataclass(frozen=True)
class Advice:
    """What is known after an epoch.

    Attributes:
        verdict: against the starting model, by the scores; None where it can't be told.
        since: first epoch of those in a row that had this verdict; 0 without one.
        stop: whether to stop now.
        text: all of it in a few sentences.
    """

    verdict: Verdict | None
    since: int
    stop: bool
    text: str


def advise(base: EpochRecord | None, epochs: Sequence[EpochRecord], num_epochs: int) -> Advice:
    """Returns the advice after the last of `epochs`.

    Args:
        base: the starting model's record, if it was scored.
        epochs: in order, at least one.
        num_epochs: of the whole run.
    """
    verdict, since, by_scores = _against_base(base, epochs)
    by_loss, rising, flat = _by_loss(base, epochs)
    best = choose_best(epochs)
    assert best is not None
    last = epochs[-1].epoch
    worse_for = sum(record.epoch >= since for record in epochs if record.texts)
    worse_for = worse_for if verdict == "worse" else 0
    stop = rising >= _PATIENCE or worse_for >= _PATIENCE
    sentences = [s for s in (by_loss, by_scores) if s]
    if stop and last < num_epochs:
        why = "the model learns its clips by heart" if rising >= _PATIENCE else "it speaks worse"
        sentences.append(f"Stop now: {why}, and further epochs only add to it.")
    elif flat >= _PATIENCE and last < num_epochs:
        sentences.append("Little is gained any more; stopping costs nothing.")
    if worse_for:
        sentences.append(
            "A lower LEARNING_RATE, or cleaner clips, is the usual cure; the starting model is "
            "the better one until then."
        )
    sentences.append(f"Best so far: epoch {best.epoch} ({best.reason}).")
    return Advice(verdict, since, stop, " ".join(sentences))


def _against_base(
    base: EpochRecord | None, epochs: Sequence[EpochRecord]
) -> tuple[Verdict | None, int, str]:
    """Returns the last epoch's verdict, since when it has held, and both in words."""
    # Listening lags behind: the last epoch that was listened to speaks for those after it.
    scored = [record for record in epochs if record.texts]
    last = compare(scored[-1], base) if base and scored else None
    if base is None or last is None:
        return None, 0, ""
    since = scored[-1].epoch
    for record in reversed(scored):
        comparison = compare(record, base)
        if comparison is None or comparison.verdict != last.verdict:
            break
        since = record.epoch
    figure = f"{last.difference:+.3f}, give or take {last.margin:.3f}"
    words = {
        "better": f"It speaks better than the starting model since epoch {since} ({figure}).",
        "worse": f"It speaks worse than the starting model since epoch {since} ({figure}).",
        "same": f"Its scores can't be told from the starting model's ({figure}).",
    }
    return last.verdict, since, words[last.verdict]


def _by_loss(base: EpochRecord | None, epochs: Sequence[EpochRecord]) -> tuple[str, int, int]:
    """Returns the course of the evaluation loss in words, and for how many epochs it has been
    rising, and without any gain.
    """
    losses = [loss_of(record) for record in epochs]
    lowest = min(losses)
    low_at = losses.index(lowest)
    behind = losses[low_at + 1 :]
    rising = 0
    for loss in reversed(behind):
        if loss <= lowest * (1 + _LOSS_MARGIN):
            break
        rising += 1
    flat = 0
    for before, loss in zip(reversed(losses[:-1]), reversed(losses[1:]), strict=True):
        if loss < before * (1 - _LOSS_MARGIN):
            break
        flat += 1
    now = f"Evaluation loss {losses[-1]:.4f}"
    if rising:
        return (
            f"{now}, above its lowest, {lowest:.4f} in epoch {epochs[low_at].epoch}, for "
            f"{rising} epoch{'s' if rising > 1 else ''}.",
            rising,
            0,
        )
    start = base and base.eval_losses.get("loss")
    fallen = f", {1 - losses[-1] / start:.1%} below the starting model's" if start else ""
    if low_at == len(losses) - 1:
        return f"{now}, its lowest so far{fallen}.", 0, flat
    return f"{now}, as low as in epoch {epochs[low_at].epoch}{fallen}.", 0, flat
