"""What happens when memory runs out: told from other errors, freed, and named with its remedy."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import torch

from app.devices.faults import MEMORY_FAULTS, classify_fault
from app.errors import DeviceError


@dataclass
class Pieces:
    """How much is computed at once; shrinks when memory runs out, and is part of a resume."""

    max_positions: int
    checkpointing: bool = False


def reason_if_memory(error: Exception, device: torch.device) -> str:
    """Returns why an error counts as a lack of memory; empty where it is another one."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    fault = classify_fault(f"{type(error).__name__}: {error}", free)
    return fault.reason if fault.kind in MEMORY_FAULTS else ""


def free_memory(device: torch.device) -> None:
    """Gives back what a failed computation left behind."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def out_of_memory(reason: str) -> DeviceError:
    """Returns the error for a model that one clip is too much for."""
    return DeviceError(
        f"Out of memory ({reason}) with one clip at a time and gradient checkpointing: set "
        "LORA_RANK=16 or OPTIMIZER=adamw8bit, a smaller TRAIN_MAX_CLIP_S, or end other "
        "programs on the device. What was saved is whole.",
        code="out_of_memory",
    )
