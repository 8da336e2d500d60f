"""Which epoch checkpoints stay: the newest, the best, and those that are still listened to."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from pathlib import Path

import msgspec

from app.errors import NotFoundError
from app.files import write_atomic
from train.epochs.judge import Best

#: In the run's output folder.
CHECKPOINTS = "checkpoints"
BEST_FILE = "best.json"
_NAME_RE = re.compile(r"checkpoint_epoch_(\d+)\.pt")
_log = logging.getLogger(__name__)


def list_epoch_checkpoints(folder: Path) -> dict[int, Path]:
    """Returns the checkpoints of a folder by their epoch, in order."""
    found = {
        int(match[1]): path
        for path in folder.glob("checkpoint_epoch_*.pt")
        if (match := _NAME_RE.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


def remember_best(folder: Path, best: Best) -> None:
    """Writes `best.json`: the epoch, the name of its checkpoint, and why it is the best."""
    content = {"epoch": best.epoch, "checkpoint": best.checkpoint, "reason": best.reason}
    write_atomic(folder / BEST_FILE, msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def read_best(folder: Path) -> Best | None:
    """Returns what `remember_best` wrote, if it is there and can be read."""
    try:
        return msgspec.json.decode((folder / BEST_FILE).read_bytes(), type=Best)
    except (OSError, msgspec.DecodeError):
        return None


def remove_old(folder: Path, keep: int, needed: Collection[Path]) -> list[Path]:
    """Removes all but the newest `keep` checkpoints and those needed; returns what it removed.

    Args:
        folder: of the checkpoints.
        keep: at least 1.
        needed: the best one, and those that a process still reads.
    """
    needed_names = {path.name for path in needed}
    removed = []
    for epoch, path in list(list_epoch_checkpoints(folder).items())[:-keep]:
        if path.name in needed_names:
            continue
        try:
            path.unlink()
        except OSError as error:
            _log.warning("%s can't be removed (%s).", path, error.strerror)
            continue
        _log.info("Removed the checkpoint of epoch %d (KEEP_CHECKPOINTS=%d).", epoch, keep)
        removed.append(path)
    return removed


def find_epoch_checkpoint(folder: Path, wanted: str) -> Path:
    """Finds `best`, an epoch's number, or a path.

    Raises:
        NotFoundError: there is none; the message lists those that are there.
    """
    checkpoints = list_epoch_checkpoints(folder)
    if wanted == "best":
        best = read_best(folder)
        wanted = str(best.epoch if best else max(checkpoints, default=""))
    if wanted.isdigit() and int(wanted) in checkpoints:
        return checkpoints[int(wanted)]
    path = Path(wanted)
    if wanted and path.is_file():
        return path
    there = ", ".join(map(str, checkpoints)) or "none; run `python -m train fit` first"
    raise NotFoundError(
        f"There is no checkpoint {wanted or 'best'!r} in {folder}: epochs there are {there}.",
        param="checkpoint",
    )
