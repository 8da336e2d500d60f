"""Breaks torch in this process as broken GPU stacks do, so that everything above can be tried.

To be installed in a child process only: some of these kill or hang whoever calls them. The texts
are those of the reports named in `docs/gpu-stack.md`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Function = Callable[..., Any]

CUFFT_INVALID_SIZE = "cuFFT error: CUFFT_INVALID_SIZE"
CUFFT_INTERNAL = "cuFFT error: CUFFT_INTERNAL_ERROR"
NO_KERNEL_IMAGE = (
    "CUDA error: no kernel image is available for execution on the device\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the "
    "stacktrace below might be incorrect."
)
UNKNOWN_ERROR = (
    "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. changing env "
    "variable CUDA_VISIBLE_DEVICES after program start. Setting the available devices to be zero."
)
ABORT_TEXT = (
    "terminate called after throwing an instance of 'c10::Error'\n"
    "  what():  cuFFT error: CUFFT_INVALID_PLAN\n"
)
_LITTLE_BYTES = 100 << 20
_ROOM_BYTES = 64 << 20
_FOREVER_S = 3600.0


def raises(text: str) -> Function:
    """Returns a function that raises what torch would."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(text)

    return broken


def hang(*_: Any, **__: Any) -> None:
    """Never comes back, shrugs SIGTERM off, and has a child of its own that does too."""
    with suppress(ValueError):  # only a main thread may
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", str(_FOREVER_S)])
    while True:
        time.sleep(_FOREVER_S)


def segfault(*_: Any, **__: Any) -> None:
    """Reads from address 0."""
    ctypes.string_at(0)


def abort(*_: Any, **__: Any) -> None:
    """Ends as an uncaught C++ exception does."""
    os.write(2, ABORT_TEXT.encode())
    os.abort()


def be_killed(*_: Any, **__: Any) -> None:
    """Ends as a process ends that the kernel kills for its memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def stale_second_call(real: Function) -> Function:
    """Returns an FFT whose second call of a size gives the first one's result, as a cached plan
    does that writes nothing into memory it was given again."""
    first: dict[Any, Any] = {}

    def stft(samples: Any, n_fft: int, *args: Any, **kwargs: Any) -> Any:
        key = (tuple(samples.shape), n_fft)
        if key in first:
            return first.pop(key)
        first[key] = real(samples, n_fft, *args, **kwargs)
        return first[key]

    return stft


def zeros(real: Function) -> Function:
    """Returns an FFT that gives zeros of the right shape."""
    return lambda *args, **kwargs: real(*args, **kwargs) * 0


def only_in(dtype_name: str, broken: Function, real: Function) -> Function:
    """Returns a function that is broken for one number format alone."""

    def picky(first: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = broken if str(first.dtype) == f"torch.{dtype_name}" else real
        return chosen(first, *args, **kwargs)

    return picky


def run_out_of_memory(*_: Any, **__: Any) -> None:
    """Asks torch's allocator for more than this process may have from now on."""
    import torch

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit_bytes = pages * resource.getpagesize() + _ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    torch.empty(2 * _ROOM_BYTES)


def install(name: str) -> None:
    """Breaks torch in the way named; a name that is not known raises KeyError."""
    if name == "import_hangs":
        hang()
    if name == "torch_missing":
        sys.modules["torch"] = None  # type: ignore[assignment]
        return
    import torch
    import torch.nn.functional as functional

    from app.devices import hardware

    attention, linear = functional.scaled_dot_product_attention, functional.linear
    stft, ones = torch.stft, torch.ones

    def little_memory(*_: Any) -> tuple[int, int]:
        return _LITTLE_BYTES, 8 << 30

    patches: dict[str, list[tuple[Any, str, Any]]] = {
        "fft_error": [(torch, "stft", raises(CUFFT_INVALID_SIZE))],
        "fft_error_by_memory": [
            (torch, "stft", _then(raises(CUFFT_INTERNAL), hardware, little_memory)),
        ],
        "fft_zeros": [(torch, "stft", zeros(stft))],
        "fft_wrong_second_call": [(torch, "stft", stale_second_call(stft))],
        "fft_hang": [(torch, "stft", hang)],
        "fft_segv": [(torch, "stft", segfault)],
        "fft_abort": [(torch, "stft", abort)],
        "killed_for_memory": [(torch, "stft", be_killed)],
        "float16_nan": [_attention(only_in("float16", nans(attention), attention))],
        "bfloat16_abort_and_fft_error": [
            _attention(only_in("bfloat16", abort, attention)),
            (torch, "stft", raises(CUFFT_INVALID_SIZE)),
        ],
        "float32_wrong": [
            (functional, "linear", only_in("float32", lambda *a: linear(*a) * 1.02, linear))
        ],
        "no_kernel_image": [(torch, "ones", raises(NO_KERNEL_IMAGE))],
        "device_vanishes": [
            (
                functional,
                "linear",
                only_in("float32", _then(raises(UNKNOWN_ERROR), hardware, raises("gone")), linear),
            )
        ],
        "first_kernel_hangs": [(torch, "ones", only_sized(hang, ones))],
        "little_memory": [(hardware, "host_memory", little_memory)],
        "memory_runs_out": [(torch, "stft", run_out_of_memory)],
    }
    for owner, attribute, replacement in patches[name]:
        setattr(owner, attribute, replacement)


def nans(real: Function) -> Function:
    """Returns a function whose result is not a number, with nothing said about it."""
    return lambda *args, **kwargs: real(*args, **kwargs) * float("nan")


def only_sized(broken: Function, real: Function) -> Function:
    """Returns torch.ones, broken where the probe's first kernel calls it with a device."""
    return lambda *args, **kwargs: (broken if "device" in kwargs else real)(*args, **kwargs)


def _attention(replacement: Function) -> tuple[Any, str, Function]:
    import torch.nn.functional as functional

    return functional, "scaled_dot_product_attention", replacement


def _then(call: Function, hardware: Any, memory: Function) -> Function:
    """Returns `call`, after which the machine's memory is read as `memory` says."""

    def with_memory(*args: Any, **kwargs: Any) -> Any:
        hardware.host_memory = memory
        return call(*args, **kwargs)

    return with_memory
