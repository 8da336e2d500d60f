"""One short name for the whole compute stack, so that a finding is never used on another.

It changes when a package, the driver, the GPUs, the library paths, the cuFFT file, the size of
the probe or the boot changes. Made in milliseconds and without torch.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from app.devices import hardware
from app.files import sha256_of_bytes
from app.settings import read_environment

#: To be raised when the probe asks for more or judges otherwise.
PROBE_VERSION = 1

_PACKAGES = (
    *("torch", "torchaudio", "torch-directml", "pytorch-triton-rocm", "triton", "numpy"),
    *(f"nvidia-{name}-cu{major}" for name in ("cufft", "cublas", "cudnn") for major in (11, 12)),
    *("nvidia-cuda-runtime-cu11", "nvidia-cuda-runtime-cu12", "nvidia-cufft"),
)
#: Variables that change which libraries are loaded and which devices are seen.
_VARIABLES = (
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH"),
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "CUDA_MODULE_LOADING"),
    *("PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE", "PYTORCH_ENABLE_MPS_FALLBACK"),
)
_FFT_FILES = ("libcufft.so*", "libhipfft.so*", "librocfft.so*")
_NUM_HEX = 32


def stack_facts(root: Path = hardware.ROOT) -> dict[str, str]:
    """Returns everything the fingerprint is made of, by name: what to look at when it changed."""
    variables = read_environment(_VARIABLES)
    facts = {
        "probe": str(PROBE_VERSION),
        "platform": hardware.platform_name(),
        "boot": hardware.boot_id(root),
        "driver": hardware.driver_version(root),
        "driver files": "; ".join(hardware.driver_files(root)),
        "gpus": "; ".join((*hardware.nvidia_gpus(root), *hardware.amd_gpus(root))),
        "fft files": "; ".join(_fft_files(variables.get("LD_LIBRARY_PATH", ""))),
    }
    facts |= {f"package {name}": _version_of(name) for name in _PACKAGES}
    facts |= {f"variable {name}": value for name, value in variables.items()}
    return facts


def fingerprint(root: Path = hardware.ROOT) -> str:
    """Returns 32 hex digits that stand for the stack as it is now."""
    lines = [f"{name}={value}" for name, value in sorted(stack_facts(root).items())]
    return sha256_of_bytes("\n".join(lines).encode())[:_NUM_HEX]


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _fft_files(library_path: str) -> list[str]:
    """Names every FFT library that the loader could take: torch's own, the wheels', the path's."""
    folders = [Path(part) for part in library_path.split(":") if part]
    spec = importlib.util.find_spec("torch")
    if spec and spec.origin:
        package = Path(spec.origin).parent
        folders += [package / "lib", package.parent / "nvidia" / "cufft" / "lib"]
    return [
        hardware.identity_of(path)
        for folder in folders
        for pattern in _FFT_FILES
        for path in sorted(folder.glob(pattern))
    ]
