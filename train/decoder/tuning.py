"""Fine-tuning as a job of the loop: a decoder's training with held-out clips that watch it.

The lowest of the evaluations, by clips with drawn codes as in speech, is kept beside the weights in
training and is part of a resume. With an adversary only those count that it had a hand in: what it
gives is not in the distance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from train.decoder.job import DecoderJob
from train.decoder.judge import DRAWN, ClipDistances, Judge, mean_of

Told = Callable[[int, ClipDistances], None]


class TuningJob:
    """A `train.loop.Job`.

    Args:
        job: computes the losses.
        judge: of held-out clips; None in processes that don't judge.
        delay: codes that latents are behind the audio.
        every: steps between two evaluations.
        last_step: is evaluated as well.
        counts_from: evaluations of earlier steps are no candidates.
        told: is told the step and the mean distances of each evaluation.
    """

    def __init__(
        self,
        job: DecoderJob,
        judge: Judge | None,
        *,
        delay: int,
        every: int,
        last_step: int,
        counts_from: int,
        told: Told,
    ) -> None:
        self._job = job
        self._judge = judge
        self._delay = delay
        self._every = every
        self._last_step = last_step
        self._counts_from = counts_from
        self._told = told
        #: step -> distances of each clip
        self.records: dict[int, list[ClipDistances]] = {}
        self.best_step = 0
        self.best: dict[str, Tensor] = {}

    @property
    def module(self) -> nn.Module:
        """The generator."""
        return self._job.module

    def losses(self, step: int, process: int) -> dict[str, Tensor]:
        """As `DecoderJob.losses`."""
        return self._job.losses(step, process)

    def after_step(self, step: int) -> None:
        """Evaluates where it is due."""
        if step % self._every == 0 or step == self._last_step:
            self.evaluate(step)

    def evaluate(self, step: int) -> None:
        """Lets the held-out clips judge the weights as they are."""
        if self._judge is None or step in self.records:
            return
        found = self._judge.distances(self.module, self._delay)
        means = mean_of(found)
        self._told(step, means)
        self.records[step] = found
        if step < self._counts_from:
            return
        if not self.best or means[DRAWN] < mean_of(self.records[self.best_step])[DRAWN]:
            self.best_step = step
            self.best = {n: v.detach().cpu().clone() for n, v in self.module.state_dict().items()}

    def extra_state(self) -> dict[str, Any]:
        """Returns the adversary's state, all evaluations and the best weights."""
        return {
            "decoder": self._job.extra_state(),
            "records": self.records,
            "best_step": self.best_step,
            "best": self.best,
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back `extra_state`; what was best before the adversary came is no candidate."""
        self._job.load_extra_state(state["decoder"])
        self.records = dict(state["records"])
        if state["best_step"] >= self._counts_from:
            self.best_step = int(state["best_step"])
            self.best = {name: torch.as_tensor(v) for name, v in state["best"].items()}
