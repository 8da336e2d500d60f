"""A training run from its first step to its last, over any number of starts.

Epoch by epoch: steps over every clip once, evaluation, checkpoint, word to the observers. The
state is saved by the clock and at the ends of epochs; a stop saves at once. After a crash the last
steps, and perhaps an epoch's end, are made again, to the same bits.
"""

from __future__ import annotations

import itertools
import logging
import math
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from app.errors import OutputError
from train.data.batches import BatchSampler
from train.events import EpochFacts, Observer, RunPlan, StepFacts
from train.fit.batch import Row, draw_rows
from train.fit.epoch_file import checkpoint_path, write_companions, write_epoch_file
from train.fit.held_out import HeldOut
from train.fit.network import SLOW_PARTS
from train.fit.quarantine import FILE_NAME, Quarantine
from train.fit.result import FitResult
from train.fit.saving import Saver
from train.fit.setup import FitSetup
from train.fit.state import resume, settings_of
from train.fit.stepper import PROMPT_POSITIONS, Stepper, StepResult, StoppedError, Sums
from train.optimizers import make_optimizer
from train.parallel import any_process
from train.stopping import stop_on_signals

#: Of coqui's recipe (recipes/ljspeech/xtts_v2/train_gpt_xtts.py); it clips no gradients.
_BETAS = (0.9, 0.96)
_WEIGHT_DECAY = 0.01
_MAX_NORM = 1.0
_LAST_RATE_SHARE = 0.05
_MAX_REFUSED = 5
_log = logging.getLogger(__name__)


def rate_share(step: int, warmup: int, done: float) -> float:
    """Returns the share of the highest rate: a linear rise, then a linear fall.

    Args:
        step: counted from 0.
        warmup: steps of the rise.
        done: share of the whole run that lies behind, 0 to 1.
    """
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rise * max(_LAST_RATE_SHARE, 1 - done)


class FitRun:
    """One start of a run."""

    def __init__(self, setup: FitSetup, observers: Sequence[Observer]) -> None:
        options = setup.options
        self._setup = setup
        self._observers = observers if setup.accelerator.is_main_process else ()
        self._train = setup.clips.side("train")
        self._optimizer = make_optimizer(
            setup.network,
            rate=setup.rate,
            betas=_BETAS,
            weight_decay=_WEIGHT_DECAY,
            slow=SLOW_PARTS,
            kind=options.optimizer,
        )
        self._sampler = BatchSampler(
            [clip.num_positions + PROMPT_POSITIONS for clip in self._train],
            max_positions=options.batch_tokens,
            seed=options.train_seed,
        )
        self._quarantine = Quarantine(options.train_output_dir / FILE_NAME, len(self._train))
        self._progress = resume(setup, self._optimizer, self._sampler, self._quarantine)
        self._held_out = HeldOut(
            setup.clips,
            setup.clips.side("eval"),
            setup.stats,
            setup.layout,
            options.batch_tokens,
        )
        self._saver = Saver(setup, self._optimizer, self._sampler, self._quarantine, self._progress)
        self._checkpoint: Path | None = None
        self._stop_asked: Callable[[], bool] = lambda: False
        self._has_begun = False

    def run(self) -> FitResult:
        """Trains until the last epoch is done or a stop is asked for.

        Raises:
            OutputError: training diverged, too many clips are bad, or the disk is full.
            DeviceError: not even one clip fits into memory.
        """
        self._say_start()
        try:
            with stop_on_signals() as asked:
                self._stop_asked = asked.is_set
                finished = self._train_on()
                if finished:
                    self._saver.save_last()
                else:
                    self._saver.save()
        except BaseException as error:
            self._tell_end(f"ended by an error: {error}")
            raise
        reason = "finished" if finished else "stopped: start it again and it goes on"
        self._tell_end(reason)
        self._setup.accelerator.wait_for_everyone()
        return self._result(finished, reason)

    def _train_on(self) -> bool:
        """Goes on from where the run is; says whether it came to its end."""
        setup = self._setup
        stepper = Stepper(
            setup.network,
            self._optimizer,
            setup.accelerator,
            setup.clips,
            setup.stats,
            setup.layout,
            self._quarantine,
            setup.pieces,
            max_norm=_MAX_NORM,
            stop_asked=self._stop_asked,
        )
        if not self._progress.history:
            try:
                base = self._evaluate()
            except StoppedError:
                return False
            if not math.isfinite(base["loss"]):
                raise OutputError(
                    f"{setup.bundle.weights} gives no finite loss on any held-out clip: its "
                    "weights are damaged, or it needs PRECISION=float32."
                )
            self._progress.history.append({"epoch": 0, "train": {}, "eval": base})
        if setup.accelerator.is_main_process:
            write_companions(setup.checkpoints_dir, setup.bundle)
        plan = self._plan()
        self._has_begun = True
        self._tell(lambda observer: observer.run_begins(plan))
        setup.network.train()
        return self._epochs(stepper)

    def _epochs(self, stepper: Stepper) -> bool:
        """Steps until the last epoch is done; False where a stop came first."""
        options = self._setup.options
        try:
            while True:
                # the history begins with the starting model; an epoch that was stopped in its
                # evaluation is still to be ended
                if len(self._progress.history) <= self._sampler.epoch:
                    self._end_epoch(self._sampler.epoch)
                if self._sampler.epoch >= options.num_epochs:
                    return True
                if any_process(self._stop_asked(), self._setup.accelerator):
                    return False
                self._step(stepper)
                if self._saver.is_due():
                    self._saver.save_if_possible()
        except StoppedError:
            return False

    def _step(self, stepper: Stepper) -> None:
        started = time.monotonic()
        batches = self._next_batches()
        rate = self._set_rate()
        progress = self._progress
        epoch = self._sampler.epoch
        seed, sane = self._setup.options.train_seed, progress.refused == 0
        result = stepper.step(batches, progress.step + 1, seed, blames=sane)
        progress.step += 1
        self._sampler.mark_done(len(batches))
        seconds = time.monotonic() - started
        progress.trained_s += seconds
        progress.epoch_s += seconds
        if result.sums is not None:
            progress.epoch_sums += result.sums
        if result.put_aside and self._setup.accelerator.is_main_process:
            self._quarantine.write()
        self._note_refusal(result)
        facts = StepFacts(
            step=progress.step,
            epoch=epoch + 1,
            losses=result.sums.means if result.sums and result.sums.num_mel else {},
            rate=rate,
            grad_norm=result.grad_norm,
            audio_s=result.audio_s,
            seconds=seconds,
            memory_bytes=_memory_bytes(self._setup.accelerator.device),
            quarantined=tuple(aside.name for aside in result.put_aside),
        )
        self._tell(lambda observer: observer.step_done(facts))

    def _next_batches(self) -> list[list[Row]]:
        """Returns the rows of the next step: as many batches as ACCUMULATION says, or are left."""
        sampler, seed = self._sampler, self._setup.options.train_seed
        first = sampler.num_done
        plan = itertools.islice(sampler, self._setup.options.accumulation)
        return [
            draw_rows(self._train, batch, (seed, sampler.epoch, first + number))
            for number, batch in enumerate(plan)
        ]

    def _set_rate(self) -> float:
        sampler, options = self._sampler, self._setup.options
        done = (sampler.epoch + sampler.num_done / sampler.num_batches) / options.num_epochs
        rate = self._setup.rate * rate_share(self._progress.step, options.warmup, done)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["share"]
        return rate

    def _note_refusal(self, result: StepResult) -> None:
        if result.sums is not None:
            if result.sums.num_mel:
                self._progress.refused = 0
            return
        self._progress.refused += 1
        _log.warning(
            "Step %d was refused: the loss or gradient of all its clips together is not finite. "
            "The weights stay as they were.",
            self._progress.step,
        )
        if self._progress.refused >= _MAX_REFUSED:
            raise OutputError(
                f"Training diverged: {self._progress.refused} steps in a row had no finite loss "
                f"({len(self._quarantine)} clips are put aside). Lower LEARNING_RATE (it is "
                f"{self._setup.rate:g}) or set PRECISION=float32, and start again: it goes on from "
                "the state that was saved last."
            )

    def _end_epoch(self, epoch: int) -> None:
        progress = self._progress
        started = time.monotonic()
        held_out = self._evaluate()
        evaluated = time.monotonic()
        train = progress.epoch_sums.means
        path = checkpoint_path(self._setup.checkpoints_dir, epoch)
        if self._setup.accelerator.is_main_process:
            sha256 = write_epoch_file(
                path,
                self._setup.base_state,
                self._setup.network,
                self._setup.bundle,
                epoch=epoch,
                step=progress.step,
            )
            self._saver.epoch_file_written(path, sha256, time.monotonic() - evaluated)
        self._checkpoint = path
        saved = time.monotonic()
        facts = EpochFacts(
            epoch=epoch,
            step=progress.step,
            train_losses=train,
            eval_losses=held_out,
            seconds=progress.epoch_s,
            eval_seconds=evaluated - started,
            save_seconds=saved - evaluated,
            checkpoint=path,
        )
        progress.history.append({"epoch": epoch, "train": train, "eval": held_out})
        progress.epoch_sums, progress.epoch_s = Sums(), 0.0
        _log.info(
            "Epoch %d of %d: loss %.4f, held out %.4f (%s), %.0f s.",
            epoch,
            self._setup.options.num_epochs,
            train["loss"],
            held_out["loss"],
            _compared(progress.history),
            facts.seconds,
        )
        self._tell(lambda observer: observer.epoch_done(facts))
        if self._saver.is_due(at_epoch_end=True):
            self._saver.save_if_possible()

    def _evaluate(self) -> dict[str, float]:
        setup = self._setup
        return self._held_out.losses(
            setup.network, setup.accelerator, setup.pieces, self._stop_asked
        )

    def _tell(self, word: Callable[[Observer], None]) -> None:
        """Calls every observer; where one fails, the state is saved before the run ends."""
        try:
            for observer in self._observers:
                word(observer)
        except Exception:
            self._saver.save_if_possible()
            raise

    def _tell_end(self, reason: str) -> None:
        """Says that the run ends, whatever else is wrong, to those who know that it began."""
        for observer in self._observers if self._has_begun else ():
            try:
                observer.run_ends(reason)
            except Exception:  # noqa: BLE001, PERF203 - the error that ends the run counts more
                _log.exception("An observer failed at the end of the run.")

    def _plan(self) -> RunPlan:
        setup, options = self._setup, self._setup.options
        return RunPlan(
            output_dir=options.train_output_dir,
            runs_dir=options.train_runs_dir,
            base_model=setup.bundle.name,
            base_folder=setup.bundle.folder,
            num_epochs=options.num_epochs,
            steps_per_epoch=-(-self._sampler.num_batches // options.accumulation),
            first_step=self._progress.step,
            clips_train=len(self._train),
            clips_eval=len(setup.clips.side("eval")),
            clips_left_out=setup.num_left_out,
            audio_s_per_epoch=sum(clip.duration_s for clip in self._train),
            device=setup.device.value,
            device_reason=setup.device.reason,
            precision=setup.precision.value,
            precision_reason=setup.precision.reason,
            settings=settings_of(setup),
            base_eval_losses=self._progress.history[0]["eval"],
        )

    def _say_start(self) -> None:
        setup, sampler = self._setup, self._sampler
        _log.info("device: %s (%s)", setup.device.value, setup.device.reason)
        _log.info("number format: %s (%s)", setup.precision.value, setup.precision.reason)
        _log.info("learning rate: %g (%s)", setup.rate, setup.rate_reason)
        _log.info(
            "%d clips in %d batches (%.1f %% padding), %d computed positions at once.",
            len(self._train),
            sampler.num_batches,
            100 * sampler.padding_share,
            setup.pieces.max_positions,
        )

    def _result(self, finished: bool, reason: str) -> FitResult:
        progress = self._progress
        return FitResult(
            finished=finished,
            reason=reason,
            step=progress.step,
            epochs=self._sampler.epoch,
            trained_s=progress.trained_s,
            history=tuple(progress.history),
            quarantined=tuple(asdict(aside) for aside in self._quarantine.clips),
            checkpoint=self._checkpoint,
        )


def _compared(history: Sequence[dict[str, Any]]) -> str:
    """Says how the held-out loss stands to the starting model's."""
    return f"the starting model has {history[0]['eval']['loss']:.4f}"


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
