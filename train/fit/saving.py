"""When the state of a run is saved, and how: as seldom as little is lost, and nothing twice.

By the clock, at the ends of epochs unless that would take much of the time, and when a run ends.
Right after an epoch the weights lie in its checkpoint already: the state then links that.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch

from app.errors import OutputError
from train.checkpoints import keep_newest
from train.data.batches import BatchSampler
from train.fit.quarantine import Quarantine
from train.fit.setup import FitSetup
from train.fit.state import Progress, save_state

#: At the end of an epoch the state is saved unless saving would take more of the time than this.
_SAVE_SHARE = 0.02
#: Before the first save its time is reckoned from the epoch's checkpoint: AdamW has two means for
#: each weight.
_STATE_TO_CHECKPOINT = 2
_log = logging.getLogger(__name__)


class Saver:
    """Saves the parts of a run that change; only the first process does."""

    def __init__(
        self,
        setup: FitSetup,
        optimizer: torch.optim.Optimizer,
        sampler: BatchSampler,
        quarantine: Quarantine,
        progress: Progress,
    ) -> None:
        self._setup = setup
        self._optimizer = optimizer
        self._sampler = sampler
        self._quarantine = quarantine
        self._progress = progress
        self._last_save = time.monotonic()
        self._save_s = 0.0
        self._saved_at: tuple[int, int] | None = None
        self._epoch_file: tuple[int, Path, str] | None = None

    def epoch_file_written(self, path: Path, sha256: str, seconds: float) -> None:
        """Notes that the weights of this step are on the disk."""
        self._epoch_file = (self._progress.step, path, sha256)
        self._save_s = self._save_s or _STATE_TO_CHECKPOINT * seconds

    def is_due(self, *, at_epoch_end: bool = False) -> bool:
        """Says whether it is time to save."""
        wait_s = 60 * self._setup.options.save_every_min
        if at_epoch_end:
            wait_s = min(wait_s, self._save_s / _SAVE_SHARE)
        return time.monotonic() - self._last_save > wait_s

    def save(self) -> None:
        """Saves, unless this very state is saved.

        Raises:
            OutputError: the disk is full or can't be written to.
        """
        # the end of the last epoch has often just saved what the end of the run would
        place = (self._progress.step, len(self._progress.history))
        if not self._setup.accelerator.is_main_process or self._saved_at == place:
            return
        started = time.monotonic()
        save_state(
            self._setup,
            self._optimizer,
            self._sampler,
            self._quarantine,
            self._progress,
            weights_in=self._weights_in(),
        )
        self._last_save = time.monotonic()
        self._save_s = self._last_save - started
        self._saved_at = place

    def save_if_possible(self) -> None:
        """Saves; on a full disk it says so and the training goes on."""
        try:
            self.save()
        except OutputError as error:
            self._last_save = time.monotonic()
            _log.warning(
                "%s Training goes on; the next try is in %g min.",
                error.message,
                self._setup.options.save_every_min,
            )

    def save_last(self) -> None:
        """Saves at the end of the last epoch: one state is enough to add epochs to.

        Raises:
            OutputError: the disk is full or can't be written to.
        """
        self.save()
        if self._setup.accelerator.is_main_process:
            keep_newest(self._setup.state_dir)

    def _weights_in(self) -> tuple[Path, str] | None:
        """Returns the checkpoint that has the weights of this step, and its SHA-256."""
        # a checkpoint has adapters merged in, and no way leads back
        if self._epoch_file is None or self._setup.options.lora_rank:
            return None
        step, path, sha256 = self._epoch_file
        return (path, sha256) if step == self._progress.step else None
