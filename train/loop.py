"""The training loop that every stage shares.

It steps, schedules the rate, refuses a step whose loss or gradient is not finite, tracks, saves
and resumes, and stops at its time budget or on SIGTERM with everything saved. What a step
computes is the job's business. A job draws its batch from (seed, step, process) alone, so a resumed
run sees the batches that an unbroken one would have seen. The device, mixed precision, tracking
and the number of processes are accelerate's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from app.errors import OutputError, SettingsError
from train.checkpoints import load_newest, save_checkpoint
from train.optimizers import make_optimizer
from train.parallel import any_process, average_gradients
from train.stopping import stop_on_signals

_MAX_REFUSED_IN_A_ROW = 20
_log = logging.getLogger(__name__)


class Job(Protocol):
    """One thing to train."""

    @property
    def module(self) -> nn.Module:
        """All that is trained."""
        ...

    def losses(self, step: int, process: int) -> dict[str, Tensor]:
        """Returns scalars to track; `loss` is the one that is minimised.

        Each process draws a batch of its own for the same step.
        """
        ...

    def after_step(self, step: int) -> None:
        """Runs after the weights moved."""
        ...

    def extra_state(self) -> dict[str, Any]:
        """Returns what else a resume needs: tensors, numbers and text in dicts and lists."""
        ...

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what `extra_state` returned."""
        ...


@dataclass(frozen=True)
class LoopOptions:
    """How a job is trained."""

    steps: int
    rate: float
    warmup: int = 100
    flat: float = 0.5
    """Share of the steps before the rate begins to fall, linearly, to a twentieth."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    slow: tuple[str, ...] = ()
    """Prefixes of parameters that move at a tenth of the rate."""
    clip: float = 1.0
    average: float = 0.0
    """Decay of the running average of the weights; 0: none is kept."""
    budget_s: float = 0.0
    """Most seconds of this call; 0: no limit."""
    save_every_s: float = 180.0
    log_every: int = 20
    seed: int = 1


@dataclass
class Outcome:
    """Where a call of `fit` ended."""

    step: int
    finished: bool
    reason: str
    trained_s: float
    """Seconds of training in all calls so far."""
    losses: dict[str, float] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class _Progress:
    step: int = 0
    trained_s: float = 0.0
    average: dict[str, Tensor] = field(default_factory=dict)
    refused: int = 0


def rate_at(step: int, options: LoopOptions) -> float:
    """Returns the learning rate of a step: linear warm-up, flat, linear fall to a twentieth."""
    if step < options.warmup:
        return options.rate * (step + 1) / options.warmup
    flat_end = options.flat * options.steps
    if step < flat_end:
        return options.rate
    left = (options.steps - step) / max(1.0, options.steps - flat_end)
    return options.rate * max(0.05, left)


def fit(
    job: Job,
    folder: Path,
    options: LoopOptions,
    accelerator: Accelerator,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Trains `job` to its last step or as far as the budget allows; resumes from `folder`.

    Raises:
        OutputError: losses or gradients were not finite many steps in a row.
        SettingsError: `folder` holds training of other sizes.
    """
    job.module.to(accelerator.device)
    optimizer = make_optimizer(
        job.module,
        rate=options.rate,
        betas=options.betas,
        weight_decay=options.weight_decay,
        slow=options.slow,
    )
    torch.manual_seed(options.seed)
    progress = _resume(job, folder, optimizer)
    started = last_save = time.monotonic()
    trained_before = progress.trained_s
    sums: dict[str, float] = {}
    window = 0
    means: dict[str, float] = {}
    reason = "finished"
    job.module.train()
    with stop_on_signals() as asked:
        while progress.step < options.steps:
            for name, value in _step(job, optimizer, progress, options, accelerator).items():
                sums[name] = sums.get(name, 0.0) + value
            window += 1
            now = time.monotonic()
            progress.trained_s = trained_before + now - started
            if progress.step % options.log_every == 0:
                means = {name: value / window for name, value in sums.items()}
                sums, window = {}, 0
                _track(accelerator, progress, means, options)
            over = bool(options.budget_s) and now - started > options.budget_s
            if any_process(over or asked.is_set() or should_stop(), accelerator):
                reason = "time budget" if over else "asked to stop"
                break
            if now - last_save > options.save_every_s:
                _save(job, folder, optimizer, progress, accelerator)
                last_save = time.monotonic()
    _save(job, folder, optimizer, progress, accelerator)
    accelerator.wait_for_everyone()
    return Outcome(
        progress.step,
        progress.step >= options.steps,
        reason,
        progress.trained_s,
        means,
        progress.average,
    )


def _step(
    job: Job,
    optimizer: torch.optim.Optimizer,
    progress: _Progress,
    options: LoopOptions,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Makes one step; returns the losses, or nothing where the step was refused."""
    for group in optimizer.param_groups:
        group["lr"] = rate_at(progress.step, options) * group["share"]
    with accelerator.autocast():
        losses = job.losses(progress.step, accelerator.process_index)
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(losses["loss"])
    average_gradients(job.module, accelerator)
    norm = nn.utils.clip_grad_norm_(job.module.parameters(), options.clip)
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    progress.step += 1
    finite = math.isfinite(values["loss"]) and bool(torch.isfinite(norm))
    if any_process(not finite, accelerator):
        progress.refused += 1
        _log.warning("Step %d was refused: loss or gradient not finite.", progress.step)
        if progress.refused >= _MAX_REFUSED_IN_A_ROW:
            raise OutputError(
                f"Training diverged: {progress.refused} steps in a row had no finite loss; "
                "lower the learning rate and start from the last checkpoint."
            )
        return {}
    progress.refused = 0
    optimizer.step()
    job.after_step(progress.step)
    if options.average:
        _update_average(job.module, progress, options.average)
    return values | {"grad_norm": float(norm)}


@torch.no_grad()
def _update_average(module: nn.Module, progress: _Progress, decay: float) -> None:
    # A young average forgets faster, so that it is never dominated by the random start.
    decay = min(decay, (1 + progress.step) / (10 + progress.step))
    state = {n: p.detach() for n, p in module.named_parameters()}
    if not progress.average:
        progress.average = {name: value.clone() for name, value in state.items()}
        return
    torch._foreach_lerp_(list(progress.average.values()), list(state.values()), 1 - decay)


def _track(
    accelerator: Accelerator, progress: _Progress, means: dict[str, float], options: LoopOptions
) -> None:
    if not accelerator.is_main_process:
        return
    rate = rate_at(progress.step, options)
    accelerator.log({**means, "rate": rate, "minutes": progress.trained_s / 60}, progress.step)
    shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
    _log.info(
        "step %d/%d %.1f min %s", progress.step, options.steps, progress.trained_s / 60, shown
    )


def _save(
    job: Job,
    folder: Path,
    optimizer: torch.optim.Optimizer,
    progress: _Progress,
    accelerator: Accelerator,
) -> None:
    if not accelerator.is_main_process:
        return
    state = {
        "step": progress.step,
        "trained_s": progress.trained_s,
        "module": job.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": progress.average,
        "rng": torch.get_rng_state(),
        "extra": job.extra_state(),
    }
    save_checkpoint(folder, progress.step, state)


def _resume(job: Job, folder: Path, optimizer: torch.optim.Optimizer) -> _Progress:
    state = load_newest(folder)
    if state is None:
        return _Progress()
    try:
        job.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise SettingsError(
            f"{folder} holds training of other sizes; put the sizes in the recipe back, or remove "
            f"the folder to start over ({str(error)[:200]})."
        ) from error
    torch.set_rng_state(state["rng"])
    job.load_extra_state(state["extra"])
    device = next(job.module.parameters()).device
    average = {name: value.to(device) for name, value in state["average"].items()}
    _log.info("resumed at step %d after %.1f min", state["step"], state["trained_s"] / 60)
    return _Progress(state["step"], state["trained_s"], average)
