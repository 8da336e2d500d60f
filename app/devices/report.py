"""What a probe found: a class with its evidence, never a bare yes or no.

Plain frozen data that survives a trip through JSON. Knows how to name a finding in words; knows
nothing of how it was found (`probe`, `classify`) or of what follows from it (`routes`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import msgspec

Verdict = Literal[
    "ok",
    "fft_error",
    "fft_wrong",
    "fft_hang",
    "fft_crash",
    "dtype_unsafe",
    "no_kernel_image",
    "gpu_dead",
    "gpu_lost",
    "low_memory",
    "no_gpu",
]
Backend = Literal["cuda", "rocm", "mps", "cpu", "directml", "unknown"]
DtypeName = Literal["float32", "bfloat16", "float16"]

FFT_FAULTS: frozenset[Verdict] = frozenset({"fft_error", "fft_wrong", "fft_hang", "fft_crash"})

#: What each verdict means and what a person can do about it.
MEANINGS: dict[Verdict, str] = {
    "ok": "Every operation gave the right numbers.",
    "fft_error": "The FFT library refuses to work; the few FFTs of the path go another way and "
    "the device stays in use. Another torch build or driver may cure it.",
    "fft_wrong": "The FFT library returns wrong numbers; the few FFTs of the path go another way "
    "and the device stays in use. Another torch build or driver may cure it.",
    "fft_hang": "An FFT never comes back; the few FFTs of the path go another way and the device "
    "stays in use. Another driver may cure it.",
    "fft_crash": "An FFT kills the process; the few FFTs of the path go another way and the "
    "device stays in use. Another torch build or driver may cure it.",
    "dtype_unsafe": "The device gives wrong numbers in some number formats; these are not used.",
    "no_kernel_image": "This torch build has no kernels for this GPU; install the build for its "
    "generation (RTX 50xx: CUDA 12.8 or newer). Until then the CPU is used.",
    "gpu_dead": "The GPU is there and can't be used; the CPU is used. See the evidence; a driver "
    "update or a reboot is the usual cure.",
    "gpu_lost": "This process lost its GPU; the CPU is used. Restart the container, or the "
    "service if there is none.",
    "low_memory": "Too little free memory to tell; end other programs on the device, or try "
    "again later. Nothing is remembered of this.",
    "no_gpu": "There is no GPU that this program can use; the CPU is used.",
}


@dataclass(frozen=True)
class Evidence:
    """One thing that went wrong: the operation in flight, and what was seen of it."""

    stage: str
    operation: str
    detail: str
    dtype: str | None = None
    batch: int | None = None
    length_s: float | None = None
    call: int | None = None  # 1 for the first call of a size, 2 for the one with a cached plan
    difference: float | None = None  # largest |device - reference| over largest |reference|
    limit: float | None = None
    free_bytes: int | None = None


@dataclass(frozen=True)
class DtypeResult:
    """Whether a number format can be trusted on the device; `safe` is None when not tried."""

    dtype: DtypeName
    safe: bool | None
    difference: float | None
    reason: str


@dataclass(frozen=True)
class Stack:
    """The versions in play; empty where there is no such part, or it does not say."""

    torch: str = ""
    cuda: str = ""  # the CUDA (or ROCm) version torch was built with
    cudnn: str = ""
    cufft: str = ""  # what the loaded library itself answers
    fft_file: str = ""  # the library file that really was mapped into the process
    driver: str = ""
    gpu_name: str = ""
    compute_capability: str = ""
    kernel_targets: tuple[str, ...] = ()  # architectures the torch build has kernels for
    platform: str = ""


@dataclass(frozen=True)
class StageTime:
    """How long one stage of the probe took, in seconds."""

    stage: str
    duration_s: float


@dataclass(frozen=True)
class ProbeReport:
    """The whole finding on one device."""

    verdict: Verdict
    device: str  # where the operations ran, as torch calls it: cuda, mps or cpu
    backend: Backend
    detail: str  # one sentence on this case; `MEANINGS` has the one on the class
    evidence: tuple[Evidence, ...] = ()
    dtypes: tuple[DtypeResult, ...] = ()
    fft_right: bool | None = None  # None: not tried, or not to be told
    dft_right: bool | None = None  # the same for spectra by matrix product, without FFT
    stack: Stack = Stack()
    free_bytes: int | None = None
    total_bytes: int | None = None
    stages: tuple[StageTime, ...] = ()
    duration_s: float = 0.0
    #: False where another try may well answer otherwise; such a report is never remembered.
    conclusive: bool = True
    fingerprint: str = ""
    probed_at: str = ""  # ISO 8601, UTC
    cached: bool = False

    @property
    def usable(self) -> bool:
        """True when the device may do the heavy work, perhaps with its FFTs elsewhere."""
        float32 = self.dtype("float32")
        return float32 is not None and float32.safe is True and self.verdict != "gpu_lost"

    @property
    def on_gpu(self) -> bool:
        """True when the report speaks of a GPU and not of the processor."""
        return self.device != "cpu"

    def dtype(self, name: str) -> DtypeResult | None:
        """Returns what was found of one number format; None if it was not in question."""
        return next((result for result in self.dtypes if result.dtype == name), None)

    def is_safe(self, name: str) -> bool:
        """True when the probe saw this number format give the right results."""
        result = self.dtype(name)
        return result is not None and result.safe is True

    def to_json(self) -> bytes:
        """Returns the report as one line of JSON; `from_json` gives the same report back."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(data: bytes) -> ProbeReport:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: `data` is no such report (msgspec's errors are ValueErrors).
        """
        return msgspec.json.decode(data, type=ProbeReport)

    def as_cached(self) -> ProbeReport:
        """Returns the same report, marked as read from the cache."""
        return replace(self, cached=True)
