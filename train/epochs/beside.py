"""Runs listening jobs beside the training, one child process after the other.

The training never waits for a child, and whatever becomes of one (an error, a hang, a signal)
costs its job alone. Children must be started from a thread that lives as long as the training,
because they die with it; so they are started in `submit` and `poll`, which the loop's thread calls.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from app.errors import AudioVoiceError
from app.isolation import (
    child_environment,
    has_exited,
    kill_group,
    name_of_signal,
    python_command,
    spawn_session,
)
from train.epochs.job import Listened, ListenJob

CHILD = "train.epochs.child"
_OUTPUT_BYTES = 2000
_WAIT_S = 0.1


@dataclass(frozen=True)
class Patience:
    """Longest silence of a child, in seconds: until it speaks, and from then on."""

    start_s: float
    step_s: float


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its result, or a fault in words."""

    job: ListenJob
    result: Listened | None
    fault: str
    seconds: float


class BesideRunner:
    """A queue of jobs and the one child that works on it.

    Args:
        patience: after which a silent child is killed.
        command: starts the child; the job's and the result's path are added.
    """

    def __init__(
        self, patience: Patience, command: Sequence[str] = tuple(python_command(CHILD))
    ) -> None:
        self._patience = patience
        self._command = tuple(command)
        self._waiting: deque[ListenJob] = deque()
        self._running: _Child | None = None

    @property
    def num_left(self) -> int:
        """Jobs that run or wait."""
        return len(self._waiting) + (self._running is not None)

    @property
    def jobs(self) -> tuple[ListenJob, ...]:
        """Those jobs; their checkpoints are still needed."""
        running = (self._running.job,) if self._running else ()
        return (*running, *self._waiting)

    def submit(self, job: ListenJob) -> None:
        """Takes a job; it begins when those before it have ended."""
        self._waiting.append(job)
        if self._running is None:
            self._start_next()

    def poll(self) -> Outcome | None:
        """Returns a job that has ended since, kills a child that fell silent, starts the next."""
        if self._running is None:
            return None
        outcome = self._running.outcome()
        if outcome is not None:
            self._running = None
            if self._waiting:
                self._start_next()
        return outcome

    def wait(self, tell: Callable[[str], None] = lambda _what: None) -> Outcome | None:
        """Waits until a job has ended; None where there is none.

        Args:
            tell: told every few moments what the child is doing.
        """
        while self._running is not None:
            outcome = self.poll()
            if outcome is not None:
                return outcome
            if self._running is not None:
                tell(self._running.doing)
            time.sleep(_WAIT_S)
        return None

    def close(self) -> None:
        """Ends the child and drops what waits; nothing of it is left."""
        self._waiting.clear()
        if self._running is not None:
            self._running.end()
            self._running = None

    def _start_next(self) -> None:
        self._running = _Child(self._waiting.popleft(), self._patience, self._command)


class _Child:
    """One job in its process. Its stdout is a file whose growth is the sign of life."""

    def __init__(self, job: ListenJob, patience: Patience, command: Sequence[str]) -> None:
        self.job = job
        self._patience = patience
        self._started = self._heard_at = time.monotonic()
        self._num_heard = 0
        self._folder = Path(tempfile.mkdtemp(prefix="listen-"))
        self._result = self._folder / "result.json"
        job_path = self._folder / "job.json"
        job_path.write_bytes(msgspec.json.encode(job))
        self._stdout, self._stderr = self._folder / "stdout", self._folder / "stderr"
        environment = child_environment(
            {
                "OMP_NUM_THREADS": str(job.threads),
                # a thread that spins while it waits would take the training's processors
                "OMP_WAIT_POLICY": "PASSIVE",
                # whatever is wrong with the GPU, this process does not touch it
                "CUDA_VISIBLE_DEVICES": "",
                "HIP_VISIBLE_DEVICES": "",
            }
        )
        with self._stdout.open("ab") as out, self._stderr.open("ab") as err:
            self._process = spawn_session(
                [*command, str(job_path), str(self._result)], environment, stdout=out, stderr=err
            )

    @property
    def doing(self) -> str:
        """The child's last words on what it is doing."""
        said = _end_of(self._stdout)
        return said.splitlines()[-1] if said else "starting"

    def outcome(self) -> Outcome | None:
        """Returns how the job ended, once it has; nothing of the child is left then."""
        now = time.monotonic()
        if has_exited(self._process):
            self.end(keep_files=True)
            result, fault = self._read_result()
        elif fault := self._silence(now):
            self.end(keep_files=True)
            result = None
        else:
            return None
        self._remove_files()
        return Outcome(self.job, result, fault, now - self._started)

    def end(self, *, keep_files: bool = False) -> None:
        """Kills the child and all that it started."""
        kill_group(self._process)
        if not keep_files:
            self._remove_files()

    def _silence(self, now: float) -> str:
        """Says that the child has been silent for too long; empty while it has not."""
        num_heard = self._stdout.stat().st_size
        if num_heard > self._num_heard:
            self._num_heard, self._heard_at = num_heard, now
        has_begun = "speaking" in self.doing or "hearing" in self.doing
        limit_s = self._patience.step_s if has_begun else self._patience.start_s
        if now - self._heard_at < limit_s:
            return ""
        return f"its process did nothing for {limit_s:.0f} s while {self.doing}, and was killed"

    def _read_result(self) -> tuple[Listened | None, str]:
        code = self._process.returncode
        try:
            content = self._result.read_bytes()
        except OSError:
            return None, f"its process {self._end_in_words()} while {self.doing}"
        if code == 0:
            return msgspec.json.decode(content, type=Listened), ""
        return None, AudioVoiceError.from_dict(msgspec.json.decode(content)).message

    def _end_in_words(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            return f"died of {name_of_signal(-code)}"
        lines = _end_of(self._stderr).splitlines()
        return f"ended with code {code} ({lines[-1] if lines else 'and no word'})"

    def _remove_files(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _end_of(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _OUTPUT_BYTES))
        return stream.read().decode("utf-8", errors="replace").strip()
