"""How a bundle's folder is written: half the width, readable by all, and there whole or not at all.

Knows files and tensors; nothing of which model they belong to.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.errors import OutputError

#: float16 ends at 65504; a weight near it has gone astray.
_HALF_LIMIT = 60_000.0


def to_half(name: str, value: Tensor) -> Tensor:
    """Returns a float tensor as float16, any other as it is; neither shares memory.

    Raises:
        OutputError: a value is not finite or too large.
    """
    if not value.is_floating_point():
        return value.contiguous()
    if not bool((value.abs() < _HALF_LIMIT).all()):
        raise OutputError(f"weight {name} is not finite or too large for float16; train again.")
    return value.detach().to(torch.float16).contiguous().clone()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON that people read, into a folder that is not published yet."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def publishing(target: Path, *, replace: bool) -> Iterator[Path]:
    """Yields an empty hidden folder beside `target` that takes its place when the block ends.

    After an error nothing of it is left, and `target` is as it was.

    Args:
        target: the bundle's folder.
        replace: whether one that is there may be replaced.

    Raises:
        FileExistsError: it is there and may not be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield made
        _open_to_readers(made)
        if target.exists():
            if not replace:
                raise FileExistsError(target)
            shutil.rmtree(target)
        made.replace(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _open_to_readers(folder: Path) -> None:
    """Lifts the private modes that temporary folders and safetensors' files are made with."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
