"""Whether the disk has room for what a run will write: reckoned before it starts, and each save."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from app.errors import SettingsError

#: Samples, TensorBoard's events and logs of a long run.
_OTHER_BYTES = 200_000_000


@dataclass(frozen=True)
class SpaceNeeded:
    """Bytes of one checkpoint, of all that are there at once, and of the state for a resume."""

    checkpoint: int
    checkpoints: int
    state: int

    @property
    def total(self) -> int:
        """All of it, with what else a run writes."""
        return self.checkpoints + self.state + _OTHER_BYTES


def needed_for(
    checkpoint_bytes: int, state_bytes: int, *, keep: int, num_states: int, num_epochs: int
) -> SpaceNeeded:
    """Returns what a run will need at most.

    Args:
        checkpoint_bytes: of one `checkpoint_epoch_X.pt`.
        state_bytes: of one state for a resume.
        keep: newest checkpoints that stay; with them the best one, one that is still listened to,
            and the one that is being written.
        num_states: states that are there at once, the one being written included.
        num_epochs: there are no more checkpoints than epochs.
    """
    num_checkpoints = min(num_epochs, keep + 3)
    return SpaceNeeded(
        checkpoint_bytes, num_checkpoints * checkpoint_bytes, num_states * state_bytes
    )


def check_space_or_raise(folder: Path, needed_bytes: int, what: str) -> None:
    """Compares what is needed with what is free where `folder` is, or will be.

    Raises:
        SettingsError: there is less; the message has both figures and the remedy.
    """
    free = free_bytes(folder)
    if free < needed_bytes:
        raise SettingsError(
            f"{folder} needs {_gigabytes(needed_bytes)} for {what} and has {_gigabytes(free)} "
            "free: make room, lower KEEP_CHECKPOINTS, or name another folder.",
            param="KEEP_CHECKPOINTS",
        )


def free_bytes(folder: Path) -> int:
    """Returns what is free on the disk that a folder is, or will be, on."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def folder_bytes(folder: Path) -> int:
    """Returns the size of the files under a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.0f} MB"
