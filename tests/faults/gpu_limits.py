"""A worker whose GPU memory ends soon: torch's allocator refuses what goes beyond, for real.

`open_with_little_memory` takes the place of the worker's own factory. $GPU_EXTRA_MB is what it may
take beyond the loaded model.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import torch

from app.synthesis.opening import open_synthesizer

_ballast: list[torch.Tensor] = []


def open_with_little_memory(settings: Any, report: Any, place: Any) -> Any:
    """Loads the model as the worker does, and then holds the allocator to what it has by now."""
    synthesizer = open_synthesizer(settings, report, place)
    if synthesizer.info.device.startswith("cuda"):
        torch.cuda.empty_cache()
        _allow(torch.cuda.memory_reserved())
        _fill_gaps()
        _allow(torch.cuda.memory_reserved() + (int(os.environ["GPU_EXTRA_MB"]) << 20))
    return synthesizer


def _allow(num_bytes: int) -> None:
    torch.cuda.set_per_process_memory_fraction(num_bytes / torch.cuda.mem_get_info()[1])


def _fill_gaps() -> None:
    """Takes what the allocator holds and has not given out: a row or two could hide in there."""
    for num_bytes in (1 << 20, 1 << 16, 1 << 12, 512):
        with suppress(torch.OutOfMemoryError):
            while True:
                _ballast.append(torch.empty(num_bytes, dtype=torch.uint8, device="cuda"))
