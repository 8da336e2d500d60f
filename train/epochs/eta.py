"""How long a run will take from here: by what steps cost for each second of audio they learn from.

Steps of long and of short clips take different times, so what is counted is audio and not steps.
Evaluating and saving is measured too; before it has been seen once, it is reckoned. Pure, but for
being told what happened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.events import EpochFacts, RunPlan, StepFacts

#: The first step of a process also pays for what is done once: buffers, kernels, file caches.
_WARM_UP_STEPS = 1
#: Steps and seconds that must have been measured before a figure is given.
_LEAST_STEPS = 4
_LEAST_S = 5.0
#: What was measured this long ago counts 1/e: other work on the machine comes and goes.
_MEMORY_S = 300.0
#: A step goes through the network and back, which costs twice as much; an evaluation only through.
_SHARE_OF_EVALUATION = 1 / 3


@dataclass(frozen=True)
class Remaining:
    """Seconds to the end of the run; None while it is still being estimated."""

    seconds: float | None

    @property
    def text(self) -> str:
        """The time in words."""
        return "estimating" if self.seconds is None else in_words(self.seconds)


class Estimator:
    """Is told of every step and epoch of a run and says how much is left.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        per_epoch = max(1, plan.steps_per_epoch)
        self._epochs_done = plan.first_step // per_epoch
        share = plan.first_step % per_epoch / per_epoch
        self._audio_in_epoch_s = share * plan.audio_s_per_epoch
        self._num_steps = 0
        self._measured_s = 0.0
        self._cost = _Fading()
        self._extra_s: list[float] = []

    @property
    def audio_rate(self) -> float | None:
        """Seconds of audio learnt from in a second; None before it was measured."""
        cost = self._cost.value
        return 1 / cost if cost else None

    def step_done(self, facts: StepFacts) -> None:
        """Counts a step."""
        self._num_steps += 1
        self._audio_in_epoch_s += facts.audio_s
        if self._num_steps > _WARM_UP_STEPS and facts.audio_s > 0:
            self._measured_s += facts.seconds
            self._cost.add(facts.seconds, facts.audio_s)

    def epoch_done(self, facts: EpochFacts) -> None:
        """Counts an epoch with its evaluation and saving."""
        self._epochs_done = facts.epoch
        self._audio_in_epoch_s = 0.0
        self._extra_s.append(facts.eval_seconds + facts.save_seconds)

    def remaining(self) -> Remaining:
        """Returns what is left, evaluations and saves included."""
        cost = self._cost.value
        measured = self._num_steps - _WARM_UP_STEPS
        if cost is None or measured < _LEAST_STEPS or self._measured_s < _LEAST_S:
            return Remaining(None)
        epochs_left = self._plan.num_epochs - self._epochs_done
        audio_s = max(0.0, epochs_left * self._plan.audio_s_per_epoch - self._audio_in_epoch_s)
        return Remaining(audio_s * cost + epochs_left * self._extra_of_epoch(cost))

    def _extra_of_epoch(self, cost: float) -> float:
        if self._extra_s:
            return self._extra_s[-1]
        share = self._plan.clips_eval / max(1, self._plan.clips_train)
        return share * self._plan.audio_s_per_epoch * cost * _SHARE_OF_EVALUATION


class _Fading:
    """Ratio of two sums in which older terms count less."""

    def __init__(self) -> None:
        self._above = self._below = 0.0

    @property
    def value(self) -> float | None:
        return self._above / self._below if self._below else None

    def add(self, seconds: float, audio_s: float) -> None:
        kept = math.exp(-seconds / _MEMORY_S)
        self._above = self._above * kept + seconds
        self._below = self._below * kept + audio_s


def in_words(seconds: float) -> str:
    """Returns `45 s`, `12 min`, `3 h 20 min` or `2 days 4 h`, no finer than it can be known."""
    if seconds < 90:
        return f"{max(0, round(seconds)):d} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"
