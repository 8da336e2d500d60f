"""Training state on disk: whole or not at all, with its checksum in its name.

A checkpoint is one file `step-00001200-<16 hex of its SHA-256>.pt` of tensors and plain numbers.
Knows nothing of what the state means.
"""

from __future__ import annotations

import io
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from app.files import sha256_of_bytes, write_atomic

_NAME_RE = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.pt")
_log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int = 2) -> Path:
    """Saves `state` and removes all but the newest `keep` checkpoints of the folder."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = folder / f"step-{step:08d}-{sha256_of_bytes(content)[:16]}.pt"
    write_atomic(path, content)
    for old in list_checkpoints(folder)[keep:]:
        with suppress(FileNotFoundError):
            old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints of a folder, newest first."""
    found = [path for path in folder.glob("step-*.pt") if _NAME_RE.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name[:13], reverse=True)


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Returns the newest state whose checksum fits, or None; a damaged file is named and passed."""
    for path in list_checkpoints(folder):
        content = path.read_bytes()
        match = _NAME_RE.fullmatch(path.name)
        if match is None or sha256_of_bytes(content)[:16] != match[2]:
            _log.warning("%s is damaged; going on from the checkpoint before it.", path)
            continue
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        return state
    return None
