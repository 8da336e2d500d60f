"""Clips that were put aside in the middle of a run, each with what was wrong with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.errors import OutputError
from app.files import write_atomic
from train.data.prepared import PreparedClip

FILE_NAME = "quarantine.json"
#: More than this share of the clips, and more than a few, is no fault of single clips any more.
_MAX_SHARE = 0.05
_FEW = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Aside:
    """A clip that is not learnt from any more; `kind` is `not_finite` or `cache_damaged`."""

    index: int
    name: str
    step: int
    kind: str
    reason: str


class Quarantine:
    """The clips put aside in a run, by their number among the clips to train on.

    Args:
        path: file that people read; a resume goes by its own state.
        num_clips: to train on.
    """

    def __init__(self, path: Path, num_clips: int) -> None:
        self._path = path
        self._limit = max(_FEW, int(_MAX_SHARE * num_clips))
        self._aside: dict[int, Aside] = {}

    def __contains__(self, index: object) -> bool:
        return index in self._aside

    def __len__(self) -> int:
        return len(self._aside)

    @property
    def clips(self) -> list[Aside]:
        """All of them, in the order in which they were found."""
        return list(self._aside.values())

    def add(self, found: Iterable[Aside]) -> None:
        """Puts clips aside, with a word for each."""
        for aside in found:
            if aside.index not in self._aside:
                self._aside[aside.index] = aside
                _log.warning(
                    "Clip %s is put aside in step %d: %s. Training goes on without it.",
                    aside.name,
                    aside.step,
                    aside.reason,
                )

    def release_readable(self, readable: Iterable[int]) -> None:
        """Takes back clips whose arrays were damaged and have been made again."""
        for index in readable:
            if index in self._aside and self._aside[index].kind == "cache_damaged":
                aside = self._aside.pop(index)
                _log.info("Clip %s was prepared again and is learnt from again.", aside.name)

    def write(self) -> None:
        """Writes the file; without any clip, only where there is one already."""
        if self._aside or self._path.exists():
            rows = [asdict(aside) for aside in self.clips]
            write_atomic(self._path, json.dumps(rows, ensure_ascii=False, indent=1).encode())

    def raise_if_too_many(self) -> None:
        """Ends a run whose clips, or whose numbers, are bad as such.

        Raises:
            OutputError: more clips are aside than single faults explain.
        """
        if len(self._aside) > self._limit:
            first = "; ".join(f"{a.name}: {a.reason}" for a in self.clips[:3])
            raise OutputError(
                f"{len(self._aside)} clips had to be put aside, more than {self._limit}: {first}. "
                f"All are in {self._path}. Mend or remove them and run prepare again; if they "
                "sound right, lower LEARNING_RATE or set PRECISION=float32."
            )

    def state_dict(self) -> list[dict[str, Any]]:
        """Returns plain data for a resume."""
        return [asdict(aside) for aside in self.clips]

    def load_state_dict(self, rows: Iterable[dict[str, Any]]) -> None:
        """Takes back what `state_dict` returned."""
        self._aside = {row["index"]: Aside(**row) for row in rows}


def aside_of(index: int, clip: PreparedClip, step: int, kind: str, reason: str) -> Aside:
    """Returns the entry of a clip."""
    return Aside(index, clip.name, step, kind, reason)
