"""Whether the disk has room for what a run will write: before it starts, and for each save."""

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


def check_space_or_raise(folder: Path, needed: SpaceNeeded) -> None:
    """Compares what a run will need with what is free, or its own already.

    Args:
        folder: the run's output folder; it need not exist.
        needed: of the whole run.

    Raises:
        SettingsError: there is less; the message has both figures and the remedy.
    """
    free, own = free_bytes(folder), folder_bytes(folder)
    if free + own < needed.total:
        raise SettingsError(
            f"TRAIN_OUTPUT_DIR: {folder} needs {_gigabytes(needed.total - own)} for this run "
            f"({_gigabytes(needed.checkpoint)} a checkpoint) and has {_gigabytes(free)} free: make "
            "room, lower KEEP_CHECKPOINTS, or name another folder. Nothing was started.",
            param="TRAIN_OUTPUT_DIR",
        )


def warn_of_next_save(folder: Path, checkpoint_bytes: int) -> str:
    """Says that the next checkpoint won't fit; empty where it will. There is time to make room."""
    free = free_bytes(folder)
    if free >= checkpoint_bytes:
        return ""
    return (
        f"{folder} has {_gigabytes(free)} free, and the next checkpoint takes "
        f"{_gigabytes(checkpoint_bytes)}: make room before this epoch ends."
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
