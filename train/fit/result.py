"""What a start of a run came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FitResult:
    """Where a start of a run ended; `history` as in `Progress`."""

    finished: bool
    reason: str
    step: int
    epochs: int
    trained_s: float
    history: tuple[dict[str, Any], ...]
    quarantined: tuple[dict[str, Any], ...]
    checkpoint: Path | None

    def as_json(self) -> dict[str, Any]:
        """Returns plain values for programs."""
        checkpoint = str(self.checkpoint) if self.checkpoint else None
        return {**asdict(self), "checkpoint": checkpoint}
