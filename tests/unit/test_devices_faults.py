"""Errors of the GPU stack, in the words they really came in, get their kind."""

from __future__ import annotations

import signal

import pytest

from app.devices.faults import (
    LITTLE_MEMORY_BYTES,
    FaultKind,
    classify_exit,
    classify_fault,
)

PLENTY = 8 << 30
LITTLE = LITTLE_MEMORY_BYTES // 2
ASYNC_NOTE = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the "
    "stacktrace below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
    "\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
CUDA_OOM = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 978.00 MiB. GPU 0 has a total "
    "capacity of 15.98 GiB of which 630.00 MiB is free."
)
UNKNOWN = (
    "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, e.g. "
    "changing env variable CUDA_VISIBLE_DEVICES after program start. Setting the available "
    "devices to be zero."
)
HOST_OOM = (
    "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't "
    "allocate memory: you tried to allocate 2359296 bytes. Error code 12 (Cannot allocate memory)"
)
NVML_ASSERT = (
    'RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/pytorch/c10/cuda/'
    'CUDACachingAllocator.cpp":1154, please report a bug to PyTorch.'
)
CUBLAS_CREATE = "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
CASES: list[tuple[str, int | None, FaultKind]] = [
    (CUDA_OOM, LITTLE, "out_of_memory"),
    (CUDA_OOM, PLENTY, "out_of_memory"),  # a single huge request
    (CUDA_OOM.replace("CUDA", "HIP"), PLENTY, "out_of_memory"),
    (
        "MPS backend out of memory (MPS allocated: 20.48 GiB, max allowed: 163.20 GiB).",
        None,
        "out_of_memory",
    ),
    ("CUDA error: out of memory" + ASYNC_NOTE, LITTLE, "out_of_memory"),
    ("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", None, "out_of_memory"),
    (CUBLAS_CREATE, LITTLE, "out_of_memory"),
    (CUBLAS_CREATE, PLENTY, "other"),
    (NVML_ASSERT, LITTLE, "out_of_memory"),
    (NVML_ASSERT, None, "device_lost"),
    ("cuFFT error: CUFFT_INTERNAL_ERROR", LITTLE, "out_of_memory"),  # pytorch#119420
    ("cuFFT error: CUFFT_INVALID_SIZE", LITTLE, "out_of_memory"),
    ("cuFFT error: CUFFT_ALLOC_FAILED", PLENTY, "out_of_memory"),
    ("cuFFT error: CUFFT_INVALID_SIZE", PLENTY, "fft_failed"),
    ("cuFFT error: CUFFT_INTERNAL_ERROR", PLENTY, "fft_failed"),  # pytorch#88038
    ("cuFFT error: CUFFT_INTERNAL_ERROR", None, "device_lost"),
    ("cuFFT error: CUFFT_EXEC_FAILED", PLENTY, "fft_failed"),  # pytorch#19224
    (
        "cuFFT only supports dimensions whose sizes are powers of two when computing in half "
        "precision, but got a signal size of[1280]",
        PLENTY,
        "fft_failed",
    ),
    ("rocFFT error: hipfft failed", PLENTY, "fft_failed"),
    (
        "CUDA error: no kernel image is available for execution on the device" + ASYNC_NOTE,
        PLENTY,
        "no_kernel_image",
    ),
    (
        "NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current "
        "PyTorch installation.",
        PLENTY,
        "no_kernel_image",
    ),
    ("CUDA error: device-side assert triggered" + ASYNC_NOTE, PLENTY, "poisoned_context"),
    (
        "CUDA error: an illegal memory access was encountered" + ASYNC_NOTE,
        LITTLE,
        "poisoned_context",
    ),
    ("CUDA error: unspecified launch failure" + ASYNC_NOTE, PLENTY, "poisoned_context"),
    ("CUDA error: misaligned address", PLENTY, "poisoned_context"),
    ("CUDA error: uncorrectable ECC error encountered", None, "poisoned_context"),
    ("Failed to initialize NVML: Unknown Error", None, "device_lost"),
    ("UserWarning: Can't initialize NVML", None, "device_lost"),
    (UNKNOWN, None, "device_lost"),
    ("CUDA error: unknown error" + ASYNC_NOTE, None, "device_lost"),
    ("RuntimeError: No CUDA GPUs are available", None, "device_lost"),
    ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", PLENTY, "device_lost"),
    (HOST_OOM, PLENTY, "host_out_of_memory"),
    ("MemoryError: ", PLENTY, "host_out_of_memory"),
    ("std::bad_alloc", PLENTY, "host_out_of_memory"),
    ("OSError: [Errno 12] Cannot allocate memory", None, "host_out_of_memory"),
    ("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", LITTLE, "other"),
    ("Expected all tensors to be on the same device", None, "other"),
    ("", None, "other"),
]


@pytest.mark.parametrize(("text", "free_bytes", "kind"), CASES)
def test_text_and_free_memory_tell_the_kind(
    text: str, free_bytes: int | None, kind: FaultKind
) -> None:
    fault = classify_fault(text, free_bytes)
    assert fault.kind == kind
    assert fault.reason


def test_reason_says_how_much_memory_was_left() -> None:
    fault = classify_fault("cuFFT error: CUFFT_INTERNAL_ERROR", 100 << 20)
    assert "100 MB" in fault.reason


def test_signals_that_end_a_worker() -> None:
    assert classify_exit(None) is None
    killed, crashed = classify_exit(signal.SIGKILL), classify_exit(signal.SIGSEGV)
    assert killed is not None
    assert killed.kind == "host_out_of_memory"
    assert crashed is not None
    assert crashed.kind == "other"
