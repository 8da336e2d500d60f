"""What a run shows at a terminal: a live line there, plain lines into a file or a log.

Everything goes to stderr. A step that takes too long is told of while it lasts, by a thread: a
hanging device must not look like a slow one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from train.epochs.eta import Estimator, in_words
from train.events import EpochFacts, RunPlan, StepFacts

#: Seconds between plain lines.
_LINE_EVERY_S = 15.0
#: A step is told of when it has taken this long, and this many times what steps took before.
STALL_S = 30.0
_STALL_TIMES = 6.0
_LOOK_S = 0.5


class View:
    """Shows one run.

    Args:
        console: where; a terminal gets the live line.
        stall_s: seconds without a step after which that is said.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        console: Console,
        stall_s: float = STALL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._clock = clock
        self._stall = StallWatch(self.say, stall_s, clock)
        self._plan: RunPlan | None = None
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._line_at = clock()
        self._losses: dict[str, float] = {}
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []

    def run_begins(self, plan: RunPlan) -> None:
        """Shows what is about to happen, and begins the live line."""
        self._plan = plan
        resumed = f", going on after step {plan.first_step}" if plan.first_step else ""
        left_out = f", {plan.clips_left_out} left out" if plan.clips_left_out else ""
        self.say(
            f"Training {plan.base_model} for {plan.num_epochs} epochs of {plan.steps_per_epoch} "
            f"steps{resumed}: {plan.clips_train} clips ({in_words(plan.audio_s_per_epoch)} of "
            f"audio), {plan.clips_eval} held out{left_out}."
        )
        if self._console.is_terminal:
            self._begin_live(plan)
        self._stall.start(plan)

    def step_done(self, facts: StepFacts, eta: Estimator) -> None:
        """Shows a step."""
        assert self._plan is not None
        self._stall.step_done(facts)
        for name, value in facts.losses.items():
            before = self._losses.get(name, value)
            self._losses[name] = 0.9 * before + 0.1 * value  # single steps jump about
        for clip in facts.quarantined:
            self.say(f"{clip} is put aside: its loss or gradient was not finite.")
        in_epoch = (facts.step - 1) % max(1, self._plan.steps_per_epoch) + 1
        words = self._words(facts, eta)
        if self._progress is not None:
            self._progress.update(
                self._task,
                completed=in_epoch,
                description=f"epoch {facts.epoch}/{self._plan.num_epochs}",
                words=words,
            )
        elif self._clock() - self._line_at >= _LINE_EVERY_S:
            self._line_at = self._clock()
            self.say(
                f"epoch {facts.epoch}/{self._plan.num_epochs} "
                f"step {in_epoch}/{self._plan.steps_per_epoch}: {words}"
            )

    def epoch_done(self, facts: EpochFacts) -> None:
        """Shows what the end of an epoch took; its losses are the loop's to tell."""
        self._stall.epoch_done()
        self.say(
            f"Epoch {facts.epoch}: evaluated in {in_words(facts.eval_seconds)}, saved in "
            f"{in_words(facts.save_seconds)} as {facts.checkpoint.name}."
        )
        if self._plan is not None and facts.epoch >= self._plan.num_epochs:
            self._stall.stop()

    def say(self, text: str) -> None:
        """Shows a line above the live one."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Ends the live line and the watch."""
        self._stall.stop()
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers.clear()

    def _words(self, facts: StepFacts, eta: Estimator) -> str:
        parts = [f"{name} {value:.3f}" for name, value in self._losses.items()]
        if rate := eta.audio_rate:
            parts.append(f"{rate:.1f} s of audio a second")
        parts.append(f"rate {facts.rate:.2g}")
        parts.append(f"{facts.memory_bytes / 1e9:.1f} GB")
        remaining = eta.remaining()
        parts.append(remaining.text + (" left" if remaining.seconds is not None else ""))
        return ", ".join(parts)

    def _begin_live(self, plan: RunPlan) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[words]}"),
            console=self._console,
        )
        epoch = min(plan.num_epochs, plan.first_step // max(1, plan.steps_per_epoch) + 1)
        self._task = self._progress.add_task(
            f"epoch {epoch}/{plan.num_epochs}", total=plan.steps_per_epoch, words="first step"
        )
        self._progress.start()
        # Lines that are logged would else tear the live one.
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(
                handler, logging.FileHandler
            ):
                self._handlers.append((handler, handler.setStream(_Lines(self._console))))


class StallWatch:
    """Says so when a step does not come back: again and again, at twice the time.

    Args:
        say: shows a line.
        stall_s: seconds from which a step counts as late.
        clock: as of `View`.
    """

    def __init__(
        self, say: Callable[[str], None], stall_s: float, clock: Callable[[], float]
    ) -> None:
        self._say = say
        self._stall_s = stall_s
        self._clock = clock
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._since = clock()
        self._next_s = stall_s
        self._usual_s = 0.0
        self._doing = "The first step"
        self._steps_per_epoch = 0

    def start(self, plan: RunPlan) -> None:
        """Begins to watch."""
        self._steps_per_epoch = plan.steps_per_epoch
        self._begin("The first step")
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)
        self._thread.start()

    def step_done(self, facts: StepFacts) -> None:
        """A step came back."""
        self._usual_s = max(facts.seconds, 0.9 * self._usual_s)
        if self._steps_per_epoch and facts.step % self._steps_per_epoch == 0:
            self._begin(f"The evaluation after epoch {facts.epoch}")
        else:
            self._begin(f"Step {facts.step + 1}")

    def epoch_done(self) -> None:
        """An epoch is over."""
        self._begin("The first step of the next epoch")

    def look(self) -> None:
        """Says that something is late, if it is and it was not said yet."""
        with self._lock:
            passed_s = self._clock() - self._since
            if passed_s < self._next_s:
                return
            self._next_s = 2 * passed_s
            usual = f" (steps took up to {in_words(self._usual_s)})" if self._usual_s else ""
            doing = self._doing
        self._say(f"{doing} has taken {in_words(passed_s)} so far{usual}; still waiting for it.")

    def stop(self) -> None:
        """Ends the watch."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _begin(self, doing: str) -> None:
        with self._lock:
            self._doing = doing
            self._since = self._clock()
            self._next_s = max(self._stall_s, _STALL_TIMES * self._usual_s)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.look()


class _Lines:
    """A stream for log handlers that writes above the live line."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        if text.strip():
            self._console.print(escape(text.rstrip("\n")), highlight=False, soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Is called after each line."""
