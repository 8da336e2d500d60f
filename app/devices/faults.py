"""Which kind of trouble an error of the GPU stack is, told from its words and the free memory.

One table for the probe, the service and the trainer, so that all three mean the same thing by
"out of memory". Knows no torch: texts in, a kind out. What to do about a kind is decided by the
callers and by `routes`.

Where the texts come from: pytorch#119420 (cuFFT fails for want of memory), #88038 and #167409
(broken cuFFT), #109098 and the NVIDIA container toolkit's notice "containers losing access to
GPUs" (a lost device), c10/cuda/CUDAException.cpp and CUDAFunctions.cpp (the rest).
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "out_of_memory",
    "host_out_of_memory",
    "fft_failed",
    "no_kernel_image",
    "poisoned_context",
    "device_lost",
    "other",
]

#: Free device memory below which a library's vague error is taken for a lack of memory, and a
#: probe tells nothing. A cuFFT plan and cuBLAS workspaces need a few hundred MB.
LITTLE_MEMORY_BYTES = 1 << 30

_OUT_OF_MEMORY = (
    "out of memory",
    "outofmemoryerror",
    "cudaerrormemoryallocation",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cufft_alloc_failed",
    "hipfft_alloc_failed",
)
_HOST_OUT_OF_MEMORY = (
    "defaultcpuallocator",
    "std::bad_alloc",
    "memoryerror",
    "cannot allocate memory",
    "can't allocate memory",
)
_NO_KERNEL_IMAGE = (
    "no kernel image is available",
    "cudaerrornokernelimagefordevice",
    "hiperrornobinaryforgpu",
    "unable to find code object for all current devices",
    "invalid device function",
    "is not compatible with the current pytorch installation",
)
_POISONED = (
    # with "triggered", because a note under every CUDA error speaks of "device-side assertions"
    "device-side assert triggered",
    "illegal memory access",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction was encountered",
    "an illegal address",
    "launch timed out and was terminated",
    "uncorrectable ecc error",
    "hardware stack error",
    "invalid program counter",
)
_LOST = (
    "failed to initialize nvml",
    "can't initialize nvml",
    "nvml: unknown error",
    "gpu is lost",
    "fallen off the bus",
    "cuda unknown error",
    "cuda error: unknown error",
    "cuda_error_unknown",
    "no cuda-capable device is detected",
    "no cuda gpus are available",
    "no hip gpus are available",
    "device(s) is/are busy or unavailable",
    "system not yet initialized",
)
_FFT = ("cufft", "hipfft", "rocfft", "mkl fft error", "fft error")
# Errors that libraries give both for want of memory and for other reasons.
_VAGUE = (
    "cublas_status_not_initialized",
    "cublas_status_internal_error",
    "cudnn_status_internal_error",
    "cudnn_status_not_initialized",
    "nvml_success == r internal assert failed",
    *_FFT,
)


#: Error code of a worker that ends because the memory of its device does not suffice.
OUT_OF_MEMORY: FaultKind = "out_of_memory"
#: Kinds that less work at a time may cure.
MEMORY_FAULTS: frozenset[str] = frozenset({OUT_OF_MEMORY, "host_out_of_memory"})
#: Error codes with which a worker ends because the stack failed it, and not its request. A new
#: probe of the device is due after them; memory is another matter, which no probe mends.
STACK_FAULTS: frozenset[str] = frozenset(
    {"fft_failed", "no_kernel_image", "poisoned_context", "device_lost", "numbers_wrong"}
)


@dataclass(frozen=True)
class Fault:
    """A kind and the sentence that says why it was taken for that."""

    kind: FaultKind
    reason: str


def classify_fault(text: str, free_bytes: int | None) -> Fault:
    """Tells the kind of an error from its text and the memory that was free when it came.

    Args:
        text: the error's words, its type's name among them if at hand.
        free_bytes: free memory of the device in bytes; None when it could not be read any more,
            which itself points to a lost device.

    Returns:
        The kind with its reason. A library's vague error counts as out of memory first when less
        than `LITTLE_MEMORY_BYTES` was free.
    """
    words = text.lower()
    scarce = free_bytes is not None and free_bytes < LITTLE_MEMORY_BYTES
    if _has(words, _OUT_OF_MEMORY):
        return Fault("out_of_memory", "the device's memory is used up")
    if _has(words, _HOST_OUT_OF_MEMORY):
        return Fault("host_out_of_memory", "the machine's own memory is used up")
    if scarce and free_bytes is not None and _has(words, _VAGUE):
        return Fault(
            "out_of_memory",
            f"a vague library error with only {free_bytes / 2**20:.0f} MB free on the device",
        )
    if _has(words, _NO_KERNEL_IMAGE):
        return Fault("no_kernel_image", "this torch build has no kernels for this device")
    if _has(words, _POISONED):
        return Fault("poisoned_context", "the device context is beyond repair in this process")
    if _has(words, _LOST):
        return Fault("device_lost", "the driver does not know the device any more")
    return _classify_library_error(words, free_bytes)


def classify_exit(signal_number: int | None) -> Fault | None:
    """Tells what the signal that ended a worker points to; None when it was no signal."""
    if signal_number is None:
        return None
    if signal_number == signal.SIGKILL:
        return Fault("host_out_of_memory", "killed from outside, as the kernel does for memory")
    return Fault("other", f"died of signal {signal_number}")


def _classify_library_error(words: str, free_bytes: int | None) -> Fault:
    if "nvml_success == r internal assert failed" in words:
        return Fault("device_lost", "NVML can't be asked any more")
    if "internal_error" in words and _has(words, _FFT) and free_bytes is None:
        return Fault("device_lost", "cuFFT fails inside, and the memory can't be read any more")
    if _has(words, _FFT):
        return Fault("fft_failed", "the FFT library failed although memory was free")
    return Fault("other", "the text points to no known trouble of the stack")


def _has(words: str, marks: tuple[str, ...]) -> bool:
    return any(mark in words for mark in marks)
