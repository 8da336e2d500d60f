"""Where an epoch's checkpoint speaks: in this process on the GPU, or in a child on the CPU.

On the GPU the training waits for the few seconds of speaking; recognising is done by a child
beside the next epoch either way. What fails on the GPU is made again by a child, and where the
fault is the stack's, so is all that follows.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from app.devices.faults import MEMORY_FAULTS
from app.devices.routes import Choice, SampleRoute
from app.errors import AudioVoiceError, DeviceError
from app.synthesis.memory import give_back
from train.epochs.beside import BesideRunner, Outcome
from train.epochs.job import ListenJob, ListenPlan
from train.epochs.listen import listen, write_speeches
from train.epochs.speaking import Place, speak_texts

_MOST_CHILD_THREADS = 4
#: Jobs that may lag behind before the training waits for one: each holds a checkpoint on the disk.
MOST_BEHIND = 2
_log = logging.getLogger(__name__)


class Listener:
    """Lets checkpoints speak, one after the other.

    Args:
        plan: what they say.
        folder: where samples go.
        route: by the probe and the settings.
        place: of this process; used where the route is `gpu`.
        runner: of the children.
    """

    def __init__(
        self,
        plan: ListenPlan,
        folder: Path,
        route: Choice[SampleRoute],
        place: Place,
        runner: BesideRunner,
    ) -> None:
        self.route = route
        self._plan = plan
        self._folder = folder
        self._place = place
        self._runner = runner
        self._done: deque[Outcome] = deque()
        self._left = tempfile.TemporaryDirectory(prefix="spoken-")

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """Files that are still to be read."""
        return tuple(Path(job.weights) for job in self._runner.jobs if job.weights)

    @property
    def num_left(self) -> int:
        """Epochs that are not done."""
        return self._runner.num_left + len(self._done)

    def begin(self, epoch: int, weights: str) -> None:
        """Begins with an epoch; what comes of it is for `poll` to say."""
        job = ListenJob(epoch, weights, self._plan, str(self._folder), self._child_threads())
        if self.route.choice == "gpu":
            try:
                self._speak_here(job)
            except (DeviceError, RuntimeError) as error:
                self._leave_this_process(job, error)
            except AudioVoiceError as error:
                self._done.append(Outcome(job, None, error.message, 0.0))
            return
        self._runner.submit(job)

    def poll(self) -> Outcome | None:
        """Returns an epoch that is done, if there is one; never waits."""
        return self._done.popleft() if self._done else self._runner.poll()

    def wait(self, tell: Callable[[str], None]) -> Outcome | None:
        """Waits for the next epoch; None where none is left."""
        return self._done.popleft() if self._done else self._runner.wait(tell)

    def close(self) -> None:
        """Drops what is not done; no process is left."""
        self._runner.close()
        self._left.cleanup()

    def _speak_here(self, job: ListenJob) -> None:
        # The training's random numbers must not depend on what is done between its epochs.
        with torch.random.fork_rng():
            if not job.plan.scored:
                result = listen(job, self._place, _tell_nobody)
                self._done.append(Outcome(job, result, "", result.sample.seconds))
                return
            speeches = speak_texts(job, self._place)
        give_back(self._place.device)
        left = Path(self._left.name) / f"epoch_{job.epoch}.npz"
        write_speeches(left, speeches)
        self._runner.submit(msgspec.structs.replace(job, spoken=str(left)))

    def _leave_this_process(self, job: ListenJob, error: Exception) -> None:
        code = error.code if isinstance(error, DeviceError) else "other"
        words = str(error).strip().partition("\n")[0]
        if code in MEMORY_FAULTS:
            _log.warning("Epoch %d is spoken on the CPU, for want of memory: %s", job.epoch, words)
        else:
            self.route = Choice("cpu_subprocess", f"speaking on {self._place.device}: {words}")
            _log.warning("From now on samples are made on the CPU: %s", words)
        give_back(self._place.device)
        self._runner.submit(job)

    def _child_threads(self) -> int:
        """On a CPU the training needs every processor, and a child takes what it leaves over."""
        if self._place.device.type == "cpu":
            return 1
        return max(1, min(_MOST_CHILD_THREADS, (os.cpu_count() or 2) // 2))


def _tell_nobody(what: str) -> None:
    del what
