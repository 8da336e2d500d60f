"""Everything around the epochs of one run, as one observer of its loop."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from app.audio.clip import Clip
from app.audio.encode import encode_whole
from app.audio.pcm import to_s16
from app.files import write_atomic
from train.data.audio_facts import read_recording
from train.epochs.advice import Advice, advise
from train.epochs.beside import Outcome
from train.epochs.board import Board
from train.epochs.curves import Curves
from train.epochs.eta import Estimator
from train.epochs.history import EpochRecord, History
from train.epochs.job import BEFORE_TRAINING, ListenPlan, Sample, figures_in_words
from train.epochs.judge import choose_best
from train.epochs.keeping import CHECKPOINTS, list_epoch_checkpoints, remember_best, remove_old
from train.epochs.listen import sample_path
from train.epochs.listener import MOST_BEHIND, Listener
from train.epochs.space import warn_of_next_save
from train.epochs.speaking import read_reference
from train.epochs.view import View
from train.events import EpochFacts, RunPlan, StepFacts
from train.options import TrainingOptions

SAMPLES = "samples"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What an observer works with."""

    listen_plan: ListenPlan
    listener: Listener
    view: View
    options: TrainingOptions


class EpochWork:
    """Shows a run, lets each epoch's checkpoint speak, scores it, keeps the best, and advises.

    Args:
        parts: made by `train.epochs.setup`.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._plan: RunPlan | None = None
        self._last_epoch = 0
        self._told_s = 0.0

    def run_begins(self, plan: RunPlan) -> None:
        """Starts the view, the curves and TensorBoard; lets the starting model speak.

        Raises:
            InputError: the reference clip can't be read any more.
        """
        parts = self._parts
        self._plan = plan
        self._base_losses = plan.base_eval_losses
        self._eta = Estimator(plan)
        self._samples = plan.output_dir / SAMPLES
        self._checkpoints = plan.output_dir / CHECKPOINTS
        self._reference = read_reference(parts.listen_plan.reference)
        self._history = History(plan.output_dir, parts.listen_plan, is_new=plan.first_step == 0)
        if not self._history.run_name:
            self._history.run_name = f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
        parts.view.run_begins(plan)
        route = parts.listener.route
        parts.view.say(f"Samples: {route.choice} ({route.reason}).")
        if route.warning:
            parts.view.say(f"AGAINST THE PROBE: {route.warning}")
        self._curves = Curves(plan.runs_dir / self._history.run_name, plan.first_step)
        self._curves.run_begins(plan)
        self._board = Board(plan.runs_dir, parts.options.tensorboard_port)
        if parts.options.tensorboard:
            parts.view.say(self._board.start())
        self._last_epoch = plan.first_step // max(1, plan.steps_per_epoch)
        self._begin_missing()

    def step_done(self, facts: StepFacts) -> None:
        """Shows a step, and takes what has been listened to since."""
        self._eta.step_done(facts)
        self._curves.step_done(facts)
        self._parts.view.step_done(facts, self._eta)
        self._take_outcomes()

    def epoch_done(self, facts: EpochFacts) -> None:
        """Records an epoch and begins to listen to it, beside the next one."""
        self._last_epoch = facts.epoch
        self._eta.epoch_done(facts)
        self._curves.epoch_done(facts)
        self._parts.view.epoch_done(facts)
        self._history.put(
            EpochRecord(
                epoch=facts.epoch,
                step=facts.step,
                checkpoint=facts.checkpoint.name,
                train_losses=facts.train_losses,
                eval_losses=facts.eval_losses,
                seconds=facts.seconds + facts.eval_seconds + facts.save_seconds,
            )
        )
        while self._parts.listener.num_left >= MOST_BEHIND and self._wait_for_one():
            pass
        self._parts.listener.begin(facts.epoch, str(facts.checkpoint))
        self._take_outcomes()
        self._keep_checkpoints()

    def run_ends(self, reason: str) -> None:
        """Waits for what is still listened to if the run is complete, and closes everything."""
        parts = self._parts
        if self._plan is None:  # it ended before it began
            parts.listener.close()
            return
        try:
            if self._is_complete:
                while self._wait_for_one():
                    pass
            self._keep_checkpoints()
            parts.view.end()
            self._say_end(reason)
        finally:
            parts.view.end()
            parts.listener.close()
            self._curves.close()
            self._board.stop()

    @property
    def advice(self) -> Advice | None:
        """What is known so far; None before the first epoch has ended."""
        epochs = self._history.epochs
        if not epochs or self._plan is None:
            return None
        return advise(self._history.base, epochs, self._plan.num_epochs)

    @property
    def is_complete(self) -> bool:
        """True once the last epoch is over."""
        return self._is_complete

    @property
    def _is_complete(self) -> bool:
        return self._plan is not None and self._last_epoch >= self._plan.num_epochs

    def _begin_missing(self) -> None:
        """Begins with the starting model, and with epochs that an earlier call did not get to."""
        wanted = {BEFORE_TRAINING: ""}
        wanted |= {e: str(p) for e, p in list_epoch_checkpoints(self._checkpoints).items()}
        for epoch, weights in wanted.items():
            record = self._history.find(epoch)
            is_old = record is None and epoch != BEFORE_TRAINING
            is_done = (
                record is not None
                and record.sample is not None
                and (record.texts or not self._parts.listen_plan.scored)
            )
            if not is_old and not is_done:
                self._parts.listener.begin(epoch, weights)

    def _take_outcomes(self) -> None:
        while (outcome := self._parts.listener.poll()) is not None:
            self._take(outcome)

    def _wait_for_one(self) -> bool:
        outcome = self._parts.listener.wait(self._tell_waiting)
        if outcome is not None:
            self._take(outcome)
        return outcome is not None

    def _tell_waiting(self, doing: str) -> None:
        now = time.monotonic()
        if now - self._told_s > 10:
            self._told_s = now
            left = self._parts.listener.num_left
            self._parts.view.say(f"Waiting for {left} epoch(s) to be listened to: {doing}.")

    def _take(self, outcome: Outcome) -> None:
        """Writes what came of listening to an epoch, and says what follows from it."""
        epoch = outcome.job.epoch
        name = f"epoch {epoch}" if epoch else "the starting model"
        result, fault = outcome.result, outcome.fault
        if result is None:
            _log.warning("Sample and scores of %s are lost: %s. Training goes on.", name, fault)
            sample = Sample("failed", (fault,), seconds=round(outcome.seconds, 3))
            sample_path(self._samples, epoch).unlink(missing_ok=True)
        else:
            sample = result.sample
            if sample.verdict == "failed":
                _log.warning("No sample of %s: %s", name, "; ".join(sample.notes))
        record = msgspec.structs.replace(
            self._history.find(epoch)
            or EpochRecord(
                epoch, 0, eval_losses=self._base_losses if epoch == BEFORE_TRAINING else {}
            ),
            sample=sample,
            texts=result.texts if result else (),
            figures=result.figures if result else {},
        )
        self._history.put(record)
        self._write_samples(outcome, record)
        self._curves.listened(record)
        self._choose_best()
        self._parts.view.say(self._line_of(name, record, result.notes if result else ()))
        if epoch and (advice := self.advice) is not None:
            self._parts.view.say(advice.text)
            self._curves.advice(advice.text, record.step)

    def _write_samples(self, outcome: Outcome, record: EpochRecord) -> None:
        """Writes the reference and the JSON beside the sample, and both into TensorBoard."""
        epoch, plan, route = record.epoch, self._parts.listen_plan, self._parts.listener.route
        clip = self._reference
        pcm = to_s16(clip.samples)
        write_atomic(
            self._samples / f"epoch_{epoch}_reference.wav",
            encode_whole("wav", clip.sample_rate, pcm),
        )
        output = sample_path(self._samples, epoch)
        sample = record.sample
        assert sample is not None
        content = {
            "epoch": epoch,
            "step": record.step,
            "text": plan.text,
            "language": plan.language,
            "seed": plan.seed,
            "voice_from": plan.reference,
            "output": output.name if sample.verdict != "failed" else None,
            "verdict": sample.verdict,
            "notes": [*sample.notes, *(outcome.result.notes if outcome.result else ())],
            "duration_s": sample.duration_s,
            "seconds": sample.seconds,
            "listening_seconds": round(outcome.seconds, 3),
            "route": route.choice,
            "route_reason": route.reason,
            "recogniser": outcome.result.recogniser if outcome.result else "",
            "scores": {name: round(value, 4) for name, value in record.figures.items()},
            "scored_texts": [msgspec.to_builtins(text) for text in record.texts],
        }
        encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
        write_atomic(self._samples / f"epoch_{epoch}.json", encoded + b"\n")
        if sample.verdict != "failed":
            self._curves.sample("output", _read_wav(output), record.step)
        if epoch == BEFORE_TRAINING:
            self._curves.sample("reference", clip, record.step)

    def _line_of(self, name: str, record: EpochRecord, notes: tuple[str, ...]) -> str:
        sample = record.sample
        parts = [
            f"sample {sample.verdict if sample else 'lost'}",
            *figures_in_words(record.figures),
        ]
        why = f" ({'; '.join(notes)})" if notes else ""
        return f"Listened to {name}: {', '.join(parts)}{why}."

    def _choose_best(self) -> None:
        best = choose_best(self._history.epochs)
        if best is not None:
            remember_best(self._checkpoints, best)

    def _keep_checkpoints(self) -> None:
        best = choose_best(self._history.epochs)
        if best is None:
            return
        remember_best(self._checkpoints, best)
        needed = (self._checkpoints / best.checkpoint, *self._parts.listener.checkpoints)
        remove_old(self._checkpoints, self._parts.options.keep_checkpoints, needed)
        newest = max(list_epoch_checkpoints(self._checkpoints).values(), default=None)
        if newest is not None and not self._is_complete:
            warning = warn_of_next_save(self._checkpoints, newest.stat().st_size)
            if warning:
                _log.warning(warning)

    def _say_end(self, reason: str) -> None:
        assert self._plan is not None
        self._parts.view.say(f"Training ends: {reason}.")
        advice = self.advice
        if advice is not None:
            self._parts.view.say(advice.text)
        self._parts.view.say(f"Samples: {self._samples}. Checkpoints: {self._checkpoints}.")
        if self._parts.options.tensorboard:
            self._parts.view.say(
                f"TensorBoard ends with the run; `tensorboard --logdir {self._plan.runs_dir}` "
                "shows it again."
            )


def _read_wav(path: Path) -> Clip:
    return read_recording(path.read_bytes())
