"""Our fine-tuning in a process of its own: what `python -m train fit` does, without samples.

python -m benchmarks.training_ours TASK.json RESULT.json
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch
from rich.console import Console

from app.models.bundles import find_bundle
from app.settings import load_settings
from app.synthesis.placing import choose_threads, place_model
from benchmarks.training_task import Meter, TrainingTask
from train.epochs.curves import Curves
from train.epochs.keeping import remove_old
from train.events import EpochFacts, RunPlan, StepFacts
from train.fit.data import gather_clips
from train.fit.run import FitRun
from train.fit.setup import make_accelerator, set_up, use_threads
from train.options import TrainingOptions


class Clocks:
    """Notes each epoch, writes the curves for TensorBoard and removes old checkpoints."""

    def __init__(self, meter: Meter, options: TrainingOptions) -> None:
        self._meter = meter
        self._options = options
        self._audio_s = 0.0
        self._clips = 0
        self._curves = Curves(options.train_runs_dir / "run")

    def run_begins(self, plan: RunPlan) -> None:
        """Starts the clocks."""
        self._curves.run_begins(plan)
        self._clips = plan.clips_train
        self._meter.epoch_begins()
        self._meter.training_begins()

    def step_done(self, facts: StepFacts) -> None:
        """Counts what was learnt from; the last step of an epoch ends its learning."""
        self._curves.step_done(facts)
        self._audio_s += facts.audio_s
        self._meter.training_ends()

    def epoch_done(self, facts: EpochFacts) -> None:
        """Notes the epoch; the state that is saved after this counts to the next one."""
        self._curves.epoch_done(facts)
        remove_old(facts.checkpoint.parent, self._options.keep_checkpoints, ())
        self._meter.epoch_ends(self._audio_s, self._clips, facts.eval_losses["loss"])
        self._audio_s = 0.0
        self._meter.training_begins()

    def run_ends(self, reason: str) -> None:
        """Closes the curves."""
        del reason
        self._curves.close()


def options_of(task: TrainingTask) -> TrainingOptions:
    """Returns the settings of the run; what is not named here is at its default."""
    output = Path(task.output)
    return TrainingOptions(
        data=Path(task.data),
        base_model=task.model,
        train_cache_dir=Path(task.cache),
        train_output_dir=output,
        train_runs_dir=output / "runs",
        num_epochs=task.epochs,
        batch_tokens=task.batch_tokens,
        accumulation=task.accumulation,
        lora_rank=task.lora_rank,
        optimizer=task.optimizer,
        _env_file=None,
    )


def main() -> None:
    """Prepares what is not prepared yet, trains, and writes what was measured."""
    logging.basicConfig(level=logging.INFO)
    task = TrainingTask.read(Path(sys.argv[1]))
    options = options_of(task)
    settings = load_settings(device="cpu", precision=task.dtype)
    use_threads(task.threads or choose_threads(0)[0])
    meter = Meter()
    bundle = find_bundle(options.base_model, settings)
    placement = place_model(settings, logging.info)
    accelerator, precision = make_accelerator(placement, settings.precision)
    gathered = gather_clips(settings, options, accelerator, Console(stderr=True, quiet=True))
    setup = set_up(
        options, bundle, gathered.clips, gathered.num_left_out, placement, accelerator, precision
    )
    FitRun(setup, [Clocks(meter, options)]).run()
    meter.result(options.train_output_dir, torch.get_num_threads()).write(Path(sys.argv[2]))


if __name__ == "__main__":
    main()
