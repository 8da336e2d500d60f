"""Why there is no GPU to work with: none in the machine, hidden, lost, or not usable by torch.

Pure: what torch was built for, what the system shows and what torch said go in, a verdict and a
sentence come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.devices.faults import classify_fault
from app.devices.report import Backend, Verdict

DIRECTML_REFUSED = (
    "DirectML (privateuseone) is not supported: its coverage of the operations of XTTS is not "
    "enough. Use WSL2 with an NVIDIA driver, Linux with ROCm, or the CPU."
)


@dataclass(frozen=True)
class TorchBuild:
    """What a torch package was built for."""

    version: str
    cuda: str
    hip: str
    has_directml: bool = False


@dataclass(frozen=True)
class Absence:
    """A verdict without a device to blame: no_gpu, gpu_lost or gpu_dead."""

    verdict: Verdict
    backend: Backend
    detail: str


def explain_absence(
    build: TorchBuild, gpus: Sequence[str], said: str, hidden_by: str | None = None
) -> Absence:
    """Tells why torch offers no GPU.

    Args:
        build: what torch was built for.
        gpus: the GPUs that the system shows.
        said: what torch's own attempt to start CUDA raised.
        hidden_by: the variable that hides the GPUs from us, if one does.
    """
    if build.has_directml and not gpus:
        return Absence("no_gpu", "directml", DIRECTML_REFUSED)
    backend: Backend = "rocm" if build.hip else "cuda"
    if not gpus:
        return Absence("no_gpu", backend, "The system shows no GPU for computing.")
    if hidden_by:
        return Absence("no_gpu", backend, f"{hidden_by} hides the GPU from this process.")
    if not build.cuda and not build.hip:
        return Absence(
            "no_gpu",
            backend,
            f"The machine has a GPU ({gpus[0]}), but torch {build.version} is a build for the "
            "CPU; install a CUDA or ROCm build of the same version.",
        )
    if "driver" in said.lower() and "too old" in said.lower():
        return Absence("gpu_dead", backend, f"The GPU driver is too old for this torch: {said}")
    if classify_fault(said, None).kind == "device_lost":
        return Absence("gpu_lost", backend, f"The GPU is there, but not for this process: {said}")
    return Absence("gpu_dead", backend, f"The GPU can't be started: {said}")
