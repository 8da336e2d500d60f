"""What a training run tells those who watch it: its plan, each step, each epoch, its end.

The loop knows observers by this protocol alone; observers know the loop by these facts alone.
Only the first process calls observers. Knows no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class RunPlan:
    """What is known before the first step.

    Attributes:
        output_dir: where checkpoints, samples and the state for a resume lie.
        runs_dir: of TensorBoard's event files.
        base_model: name or path of the bundle that training starts from; `base_folder` holds it.
        num_epochs, steps_per_epoch: optimizer steps; the last epoch ends the run.
        first_step: steps made by earlier calls; above 0 when resumed.
        clips_train, clips_eval, clips_left_out: counts of clips.
        audio_s_per_epoch: seconds of audio that an epoch learns from, without padding.
        device, precision: what is used, each with the reason why.
        settings: the options of this run as text, by key of `.env`.
        base_eval_losses: of the starting model on the held-out clips.
    """

    output_dir: Path
    runs_dir: Path
    base_model: str
    base_folder: Path
    num_epochs: int
    steps_per_epoch: int
    first_step: int
    clips_train: int
    clips_eval: int
    clips_left_out: int
    audio_s_per_epoch: float
    device: str
    device_reason: str
    precision: str
    precision_reason: str
    settings: dict[str, str]
    base_eval_losses: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StepFacts:
    """What one optimizer step did.

    Attributes:
        step: counted from 1, over all epochs and calls.
        epoch: counted from 1.
        losses: `loss`, `text_ce`, `mel_ce`; empty where the step was refused.
        rate: learning rate of the step.
        grad_norm: before clipping.
        audio_s: seconds of audio this step learnt from: the clips' own lengths, no padding.
        seconds: wall time of the step.
        memory_bytes: highest use so far: of the device's memory, or of the process on a CPU.
        quarantined: names of clips that were put aside in this step.
    """

    step: int
    epoch: int
    losses: dict[str, float]
    rate: float
    grad_norm: float
    audio_s: float
    seconds: float
    memory_bytes: int
    quarantined: tuple[str, ...]


@dataclass(frozen=True)
class EpochFacts:
    """What one epoch came to; the evaluation is done and the checkpoint is saved.

    Attributes:
        epoch: counted from 1.
        step: the last of the epoch.
        train_losses, eval_losses: means over all targets; the same masks on both sides.
        seconds, eval_seconds, save_seconds: wall time of the steps, the evaluation, the saving.
        checkpoint: the `checkpoint_epoch_X.pt` of this epoch.
    """

    epoch: int
    step: int
    train_losses: dict[str, float]
    eval_losses: dict[str, float]
    seconds: float
    eval_seconds: float
    save_seconds: float
    checkpoint: Path


class Observer(Protocol):
    """Watches a run. An exception of an observer ends the run, after its state is saved.

    After a crash the steps since the last save are made again, to the same bits: an observer may
    hear of a step or of an epoch's end a second time, in a new process.
    """

    def run_begins(self, plan: RunPlan) -> None:
        """Is called before the first step."""
        ...

    def step_done(self, facts: StepFacts) -> None:
        """Is called after each optimizer step."""
        ...

    def epoch_done(self, facts: EpochFacts) -> None:
        """Is called after each epoch; returns at once, slow work goes on beside the next epoch."""
        ...

    def run_ends(self, reason: str) -> None:
        """Is called last, `reason` in words; waits for work that still goes on."""
        ...
