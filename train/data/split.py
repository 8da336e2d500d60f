"""Which clips teach, which judge, and which are left out: by content, never by order.

Every choice orders clips by a hash of what they say and sound like. The same clips in another
order, another folder or under other names fall on the same sides, and a larger MAX_TRAIN_SAMPLES
only adds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from train.data.checks import CheckedClip
from train.data.texts import text_key


@dataclass(frozen=True)
class Split:
    """Usable clips by their part; each tuple is in order of hash."""

    train: tuple[CheckedClip, ...]
    eval: tuple[CheckedClip, ...]
    left_out: tuple[CheckedClip, ...]

    @property
    def summary(self) -> str:
        """The counts in one sentence."""
        left_out = f", {len(self.left_out)} left out by MAX_TRAIN_SAMPLES" if self.left_out else ""
        return f"{len(self.train)} clips to train on, {len(self.eval)} held out{left_out}."


def split_clips(
    clips: Sequence[CheckedClip], *, eval_share: float, max_train: int | None = None
) -> Split:
    """Splits usable clips; all takes of a text go to the same side.

    Args:
        clips: at least two texts among them.
        eval_share: of the clips that is held out; at least one text is, and one is left to learn.
        max_train: most clips to train on; None: all. The held-out ones do not depend on it.
    """
    by_text: dict[str, list[CheckedClip]] = {}
    for clip in clips:
        by_text.setdefault(text_key(clip.sample.text), []).append(clip)
    wanted = max(1, math.floor(len(clips) * eval_share + 0.5))
    held_out: list[CheckedClip] = []
    train: list[CheckedClip] = []
    groups = [by_text[key] for key in sorted(by_text, key=_digest)]
    for number, group in enumerate(groups):
        is_last = number == len(groups) - 1
        side = held_out if len(held_out) < wanted and not is_last else train
        side += group
    train.sort(key=_clip_digest)
    held_out.sort(key=_clip_digest)
    limit = len(train) if max_train is None else max_train
    return Split(tuple(train[:limit]), tuple(held_out), tuple(train[limit:]))


def _clip_digest(clip: CheckedClip) -> bytes:
    return _digest(f"{clip.facts.sha256} {text_key(clip.sample.text)}")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
