"""A probe's report and the routes that follow from it, as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator

from app.devices.report import MEANINGS, DtypeResult, Evidence, ProbeReport
from app.devices.routes import Choice, Routes

_KEY_WIDTH = 18
_MEBIBYTE = 2**20


def report_lines(report: ProbeReport, routes: Routes) -> list[str]:
    """Returns the report: verdict, machine, what was tried, evidence, what follows."""
    return [
        *_verdict_lines(report),
        *_machine_lines(report),
        *_tried_lines(report),
        *(line for evidence in report.evidence for line in _evidence_lines(evidence)),
        *_route_lines(routes),
    ]


def _verdict_lines(report: ProbeReport) -> Iterator[str]:
    yield _row("verdict", report.verdict)
    yield _row("", report.detail)
    if MEANINGS[report.verdict] != report.detail:
        yield _row("", MEANINGS[report.verdict])
    told = f"remembered from {report.probed_at}" if report.cached else f"{report.duration_s:.1f} s"
    yield _row("probed", f"{told}, device {report.device} ({report.backend})")


def _machine_lines(report: ProbeReport) -> Iterator[str]:
    stack = report.stack
    rows = {
        "GPU": stack.gpu_name,
        "compute capability": stack.compute_capability,
        "driver": stack.driver,
        "torch": stack.torch,
        "built for": stack.cuda,
        "cuDNN": stack.cudnn,
        "cuFFT": stack.cufft,
        "FFT library": stack.fft_file,
        "system": stack.platform,
    }
    yield from (_row(key, value) for key, value in rows.items() if value)
    if report.free_bytes is not None and report.total_bytes is not None:
        free, total = report.free_bytes / _MEBIBYTE, report.total_bytes / _MEBIBYTE
        yield _row("memory", f"{free:,.0f} of {total:,.0f} MB free")


def _tried_lines(report: ProbeReport) -> Iterator[str]:
    for result in report.dtypes:
        yield _row(result.dtype, _describe_dtype(result))
    yield _row("FFT", _describe_bool(report.fft_right))
    yield _row("spectra, no FFT", _describe_bool(report.dft_right))
    times = ", ".join(f"{time.stage} {time.duration_s:.1f}" for time in report.stages)
    yield _row("seconds", times)


def _describe_dtype(result: DtypeResult) -> str:
    if result.difference is None or not result.safe:
        return f"{_describe_bool(result.safe)}: {result.reason}"
    return f"right: off by {result.difference:.1e} at most"


def _describe_bool(right: bool | None) -> str:
    return "not tried" if right is None else ("right" if right else "WRONG")


def _evidence_lines(evidence: Evidence) -> Iterator[str]:
    sizes = {
        "dtype": evidence.dtype,
        "batch": evidence.batch,
        "length_s": evidence.length_s,
        "call": evidence.call,
    }
    told = ", ".join(f"{key} {value}" for key, value in sizes.items() if value is not None)
    yield _row("evidence", f"{evidence.operation} ({told})")
    yield _row("", evidence.detail)


def _route_lines(routes: Routes) -> Iterator[str]:
    choices: dict[str, Choice[str]] = {
        "-> synthesis on": routes.device,
        "-> FFTs on": Choice(routes.fft.choice, routes.fft.reason),
        "-> number format": Choice(routes.dtype.choice, routes.dtype.reason),
        "-> samples": Choice(routes.sample.choice, routes.sample.reason),
    }
    yield from (_row(key, f"{made.choice}: {made.reason}") for key, made in choices.items())
    yield from (_row("WARNING", warning) for warning in routes.warnings)


def _row(key: str, value: str) -> str:
    return f"{key:{_KEY_WIDTH}} {value}".rstrip()
