"""What torch says of itself and of the device, and which FFT library is really loaded."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

import torch

from app.devices import hardware
from app.devices.absence import TorchBuild
from app.devices.report import Backend, Stack

_MAPS = Path("/proc/self/maps")
_FFT_LIBRARY = re.compile(r"/\S*lib(?:cufft|hipfft|rocfft)\.so\S*")
_CPU_FFT_LIBRARY = re.compile(r"/\S*libtorch_cpu\.so\S*")


def backend_of(device: str) -> Backend:
    """Returns whose stack stands behind a device name of torch."""
    if device.startswith("cuda"):
        return "rocm" if torch.version.hip else "cuda"
    if device in ("mps", "cpu"):
        return "mps" if device == "mps" else "cpu"
    return "directml" if device.startswith("privateuseone") else "unknown"


def torch_build() -> TorchBuild:
    """Returns what this torch was built for."""
    return TorchBuild(
        version=str(torch.__version__),
        cuda=torch.version.cuda or "",
        hip=torch.version.hip or "",
        has_directml=importlib.util.find_spec("torch_directml") is not None,
    )


def read_stack(device: str) -> Stack:
    """Returns versions and names; on a GPU this needs its context, so it may fail as that may."""
    build = torch_build()
    stack = Stack(
        torch=build.version,
        cuda=build.cuda or build.hip,
        fft_file=_loaded_fft_file(device),
        driver=hardware.driver_version(),
        platform=hardware.platform_name(),
    )
    if not device.startswith("cuda"):
        return stack
    properties = torch.cuda.get_device_properties(0)
    return Stack(
        torch=stack.torch,
        cuda=stack.cuda,
        cudnn=_cudnn_version(),
        cufft=_cufft_version(stack.fft_file),
        fft_file=stack.fft_file,
        driver=stack.driver,
        gpu_name=properties.name,
        compute_capability=f"{properties.major}.{properties.minor}",
        kernel_targets=tuple(torch.cuda.get_arch_list()),
        platform=stack.platform,
    )


def read_memory(device: str) -> tuple[int | None, int | None]:
    """Returns (free, total) memory of the device in bytes; None where it can't be read."""
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(0)
        return int(free), int(total)
    if device == "mps":
        total = int(torch.mps.recommended_max_memory())
        return total - int(torch.mps.driver_allocated_memory()), total
    return hardware.host_memory()


def _loaded_fft_file(device: str) -> str:
    """Returns the FFT library that is mapped into this process; the CPU's is inside of torch."""
    try:
        maps = _MAPS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    pattern = _FFT_LIBRARY if device.startswith("cuda") else _CPU_FFT_LIBRARY
    found = pattern.search(maps)
    return found.group() if found else ""


def _cufft_version(path: str) -> str:
    """Asks the loaded library for its version: cufftGetVersion gives 11300 for 11.3.0."""
    if "libcufft" not in path:
        return ""
    number = ctypes.c_int()
    if ctypes.CDLL(path).cufftGetVersion(ctypes.byref(number)) != 0:
        return ""
    return f"{number.value // 1000}.{number.value % 1000 // 100}.{number.value % 100}"


def _cudnn_version() -> str:
    number = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return "" if number is None else str(number)
