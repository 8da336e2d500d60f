"""Where the work goes: pure functions from what the probe saw and what the user asked for.

Every choice comes with its reason; one that follows the user against the probe also with a
warning, to be said loudly and once. Knows no torch, starts nothing, measures nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from app.devices.report import FFT_FAULTS, DtypeName, ProbeReport
from app.settings import Settings

FftRoute = Literal["device", "cpu", "dft"]
SampleRoute = Literal["gpu", "cpu_subprocess"]
ChoiceT = TypeVar("ChoiceT", bound=str)

# bfloat16 has hardware from Ampere on; older cards emulate it (CUDA programming guide, table of
# arithmetic throughput by compute capability).
_BFLOAT16_CAPABILITY = 8.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice(Generic[ChoiceT]):
    """What was chosen, why, and what speaks against it if the user insisted."""

    choice: ChoiceT
    reason: str
    warning: str | None = None


@dataclass(frozen=True)
class Routes:
    """All choices that follow from one report."""

    device: Choice[str]
    fft: Choice[FftRoute]
    dtype: Choice[DtypeName]
    sample: Choice[SampleRoute]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user insisted on against the probe, one sentence each."""
        choices = (self.device, self.fft, self.dtype, self.sample)
        return tuple(choice.warning for choice in choices if choice.warning)


def choose_routes(report: ProbeReport, settings: Settings) -> Routes:
    """Returns every choice for this device under these settings."""
    return Routes(
        device=choose_device(report, settings),
        fft=choose_fft_route(report, settings),
        dtype=choose_dtype(report, settings),
        sample=choose_sample_route(report, settings),
    )


def log_routes(routes: Routes) -> None:
    """Writes the choices with their reasons to the log, and the warnings loudly."""
    _log.info("device: %s (%s)", routes.device.choice, routes.device.reason)
    _log.info("FFTs: %s (%s)", routes.fft.choice, routes.fft.reason)
    _log.info("number format: %s (%s)", routes.dtype.choice, routes.dtype.reason)
    _log.info("samples of training: %s (%s)", routes.sample.choice, routes.sample.reason)
    for warning in routes.warnings:
        _log.warning("AGAINST THE PROBE: %s", warning)


def choose_device(report: ProbeReport, settings: Settings) -> Choice[str]:
    """Returns the device of synthesis: `cpu`, or the GPU as torch names it."""
    if settings.force_cpu:
        return Choice("cpu", "FORCE_CPU is set")
    if settings.device == "cpu":
        return Choice("cpu", "DEVICE=cpu")
    if settings.device != "auto":
        return _obey_device(report, settings.device)
    if report.on_gpu and report.usable:
        return Choice(report.device, _reason_of_use(report))
    return Choice("cpu", f"{report.verdict}: {report.detail}")


def choose_fft_route(report: ProbeReport, settings: Settings) -> Choice[FftRoute]:
    """Returns how power spectra are made on the device chosen for synthesis.

    `dft` keeps the sound on the device; where the probe did not see it right, `cpu` is left.
    """
    device = choose_device(report, settings).choice
    if device != report.device:
        return Choice("device", f"the probe found no fault in the FFT of {device}")
    if report.fft_right is True:
        return Choice("device", f"the FFT of {device} gave the right numbers")
    fault = f"{report.verdict}: {report.detail}"
    if report.dft_right is True and report.fft_right is False:
        return Choice("dft", f"spectra by matrix product, because of {fault}")
    if device == "cpu":
        return Choice("device", f"there is nothing else left, in spite of {fault}")
    return Choice("cpu", f"the FFT of {device} is not known to be right; {fault}")


def choose_dtype(report: ProbeReport, settings: Settings) -> Choice[DtypeName]:
    """Returns the number format of the model on the device chosen for synthesis."""
    device = choose_device(report, settings).choice
    if settings.precision == "int8" and device != "cpu":
        ours = choose_dtype(report, settings.model_copy(update={"precision": "auto"}))
        return replace(ours, warning="PRECISION=int8 is for CPUs; the GPU goes on without it.")
    if settings.precision != "auto" and settings.precision != "int8":
        return _obey_precision(report, settings.precision, device)
    if device == "cpu":
        return Choice("float32", "what every CPU has")
    if device == "mps":
        return Choice("float32", "half precision on Metal has failed silently for others")
    if device != report.device:
        return Choice("float32", f"the probe did not try {device}")
    if report.is_safe("bfloat16") and _has_bfloat16_units(report):
        return Choice("bfloat16", "the probe saw it right")
    if report.is_safe("float16"):
        return Choice("float16", "the probe saw it right, and bfloat16 is slow or wrong here")
    return Choice("float32", "the probe did not see a smaller format right")


def choose_sample_route(report: ProbeReport, settings: Settings) -> Choice[SampleRoute]:
    """Returns where training makes its samples: in the process on the GPU, or beside it."""
    if settings.force_cpu:
        contrary = settings.sample_route == "gpu"
        warning = "FORCE_CPU is set, so SAMPLE_ROUTE=gpu is passed over." if contrary else None
        return Choice("cpu_subprocess", "FORCE_CPU is set", warning)
    if settings.sample_route == "cpu":
        return Choice("cpu_subprocess", "SAMPLE_ROUTE=cpu")
    doubt = _doubt_about_samples(report, settings)
    if settings.sample_route == "gpu":
        warning = f"SAMPLE_ROUTE=gpu is obeyed although {doubt}." if doubt else None
        return Choice("gpu", "SAMPLE_ROUTE=gpu", warning)
    if doubt:
        return Choice("cpu_subprocess", doubt)
    return Choice("gpu", f"the probe saw nothing wrong with samples on {report.device}")


def _doubt_about_samples(report: ProbeReport, settings: Settings) -> str | None:
    """Says what speaks against samples on the GPU; None when nothing does."""
    device = choose_device(report, settings).choice
    if device == "cpu":
        return "training runs on the CPU" if settings.device == "cpu" else report.detail
    if report.verdict in FFT_FAULTS:
        return f"the FFT of {device} is broken ({report.verdict})"
    if not report.usable or report.verdict == "low_memory":
        return f"{device} can't be relied on ({report.verdict})"
    return None


def _obey_device(report: ProbeReport, device: str) -> Choice[str]:
    if device == report.device and report.usable:
        return Choice(device, f"DEVICE={device}; {_reason_of_use(report)}")
    warning = f"DEVICE={device} is obeyed although the probe says {report.verdict}: {report.detail}"
    return Choice(device, f"DEVICE={device}", warning)


def _obey_precision(report: ProbeReport, precision: DtypeName, device: str) -> Choice[DtypeName]:
    reason = f"PRECISION={precision}"
    result = report.dtype(precision) if device == report.device else None
    if result is None or result.safe is None:
        return Choice(precision, f"{reason}; not tried on {device}")
    if result.safe:
        return Choice(precision, f"{reason}; the probe saw it right on {device}")
    warning = f"{reason} is obeyed although the probe saw it fail: {result.reason}."
    return Choice(precision, reason, warning)


def _reason_of_use(report: ProbeReport) -> str:
    name = report.stack.gpu_name or report.device
    if report.verdict == "ok":
        return f"the probe saw {name} work"
    return f"{name} works but for {report.verdict}: {report.detail}"


def _has_bfloat16_units(report: ProbeReport) -> bool:
    """True on GPUs with hardware for bfloat16; ROCm's supported ones all have it (CDNA, RDNA3)."""
    if report.backend != "cuda":
        return True
    try:
        return float(report.stack.compute_capability) >= _BFLOAT16_CAPABILITY
    except ValueError:
        return False
