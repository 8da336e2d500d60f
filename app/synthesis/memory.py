"""Memory of the device: how much there is, giving it back, and the errors that speak of it.

Knows devices, not requests.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from app.devices import hardware
from app.devices.faults import classify_fault
from app.errors import DeviceError
from app.messages import DeviceMemory


def read_memory(device: torch.device) -> DeviceMemory | None:
    """Returns the memory of a GPU; None for a CPU, and where it can't be asked any more."""
    try:
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            used = torch.cuda.memory_reserved(device)
            return DeviceMemory(used, torch.cuda.max_memory_reserved(device), free, total)
        if device.type == "mps":
            used = torch.mps.driver_allocated_memory()
            total = torch.mps.recommended_max_memory()
            return DeviceMemory(used, used, max(0, total - used), total)
    except RuntimeError:  # a context that is beyond repair can't be asked either
        return None
    return None


def free_bytes(device: torch.device) -> int | None:
    """Returns what is free where the model runs; None where it can't be read any more."""
    if device.type == "cpu":
        return hardware.host_memory()[0]
    memory = read_memory(device)
    return memory.free_bytes if memory else None


def give_back(device: torch.device) -> None:
    """Drops what is held only for later use."""
    trim_heap()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def trim_heap() -> None:
    """Gives the system the pages that are free within the C heap, which keeps them otherwise.

    After loading and warming up that is a quarter of what a CPU worker holds. glibc's
    malloc_trim(3); other C libraries have none.
    """
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def naming_faults(device: torch.device) -> Iterator[None]:
    """Turns an error that points to the stack into a `DeviceError` whose code is its kind.

    Errors that point to no known trouble pass as they are.

    Raises:
        DeviceError: `out_of_memory`, `fft_failed` or another kind of `app.devices.faults`.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        fault = classify_fault(f"{type(error).__name__}: {error}", free_bytes(device))
        if fault.kind == "other":
            raise
        words = str(error).strip().partition("\n")[0]
        raise DeviceError(
            f"The work on {device} failed, for {fault.reason}: {words}", code=fault.kind
        ) from error
