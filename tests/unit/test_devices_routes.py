"""Each verdict sends the work where the user loses least; overrides are obeyed, loudly."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, get_args

import pytest

from app.devices.report import (
    FFT_FAULTS,
    Backend,
    DtypeName,
    DtypeResult,
    ProbeReport,
    Stack,
    Verdict,
)
from app.devices.routes import (
    choose_device,
    choose_dtype,
    choose_fft_route,
    choose_routes,
    choose_sample_route,
    log_routes,
)
from app.settings import Settings

DTYPES: tuple[DtypeName, ...] = get_args(DtypeName)


def formats(*safe: str) -> tuple[DtypeResult, ...]:
    return tuple(
        DtypeResult(name, name in safe, 1e-4, "seen" if name in safe else "gave NaN")
        for name in DTYPES
    )


def gpu_report(verdict: Verdict = "ok", **changes: Any) -> ProbeReport:
    """A report on an NVIDIA card of the Ampere kind, right in everything but the verdict."""
    known: dict[str, Any] = {
        "verdict": verdict,
        "device": "cuda",
        "backend": "cuda",
        "detail": f"the detail of {verdict}",
        "dtypes": formats(*DTYPES),
        "fft_right": verdict not in FFT_FAULTS,
        "dft_right": True,
        "stack": Stack(gpu_name="RTX 3090", compute_capability="8.6"),
    }
    return ProbeReport(**{**known, **changes})


def dead_report(verdict: Verdict) -> ProbeReport:
    untried = tuple(DtypeResult(name, None, None, "not tried") for name in DTYPES)
    return gpu_report(verdict, dtypes=untried, fft_right=None, dft_right=None)


def cpu_report() -> ProbeReport:
    return gpu_report("no_gpu", device="cpu", backend="cpu", stack=Stack())


def test_healthy_gpu_does_everything() -> None:
    routes = choose_routes(gpu_report(), Settings())
    assert routes.device.choice == "cuda"
    assert routes.fft.choice == "device"
    assert routes.dtype.choice == "bfloat16"
    assert routes.sample.choice == "gpu"
    assert routes.warnings == ()


@pytest.mark.parametrize("verdict", sorted(FFT_FAULTS))
def test_broken_fft_keeps_the_gpu_and_moves_samples_beside(verdict: Verdict) -> None:
    routes = choose_routes(gpu_report(verdict), Settings())
    assert routes.device.choice == "cuda"
    assert routes.fft.choice == "dft"
    assert routes.dtype.choice == "bfloat16"
    assert routes.sample.choice == "cpu_subprocess"
    assert verdict in routes.sample.reason


def test_ffts_go_to_the_cpu_where_the_matrix_product_is_coarse_too() -> None:
    report = gpu_report("fft_wrong", dft_right=False)
    assert choose_fft_route(report, Settings()).choice == "cpu"
    assert choose_fft_route(replace(report, dft_right=None), Settings()).choice == "cpu"


def test_fft_that_was_not_tried_is_not_used_on_the_gpu() -> None:
    report = gpu_report("low_memory", fft_right=None, dft_right=None)
    assert choose_fft_route(report, Settings()).choice == "cpu"


def test_wrong_fft_of_the_cpu_itself_is_gone_around() -> None:
    report = replace(cpu_report(), verdict="fft_wrong", fft_right=False)
    assert choose_fft_route(report, Settings()).choice == "dft"
    assert choose_fft_route(replace(report, dft_right=False), Settings()).choice == "device"


@pytest.mark.parametrize("verdict", ["gpu_dead", "gpu_lost", "no_kernel_image", "low_memory"])
def test_gpu_that_was_not_seen_to_work_is_not_used(verdict: Verdict) -> None:
    routes = choose_routes(dead_report(verdict), Settings())
    assert routes.device.choice == "cpu"
    assert verdict in routes.device.reason
    assert routes.fft.choice == "device"
    assert routes.dtype.choice == "float32"
    assert routes.sample.choice == "cpu_subprocess"


def test_without_a_gpu_all_is_on_the_cpu_in_float32() -> None:
    routes = choose_routes(cpu_report(), Settings())
    assert (routes.device.choice, routes.dtype.choice) == ("cpu", "float32")
    assert routes.sample.choice == "cpu_subprocess"


def test_gpu_wrong_in_float32_is_not_used() -> None:
    report = gpu_report("dtype_unsafe", dtypes=formats("bfloat16", "float16"))
    assert choose_device(report, Settings()).choice == "cpu"


@pytest.mark.parametrize(
    ("safe", "capability", "backend", "expected"),
    [
        (DTYPES, "8.6", "cuda", "bfloat16"),
        (DTYPES, "7.5", "cuda", "float16"),  # Turing emulates bfloat16
        (("float32", "float16"), "8.6", "cuda", "float16"),
        (("float32", "bfloat16"), "7.5", "cuda", "float32"),
        (("float32",), "8.6", "cuda", "float32"),
        (DTYPES, "", "rocm", "bfloat16"),
        (DTYPES, "", "cuda", "float16"),
    ],
)
def test_small_formats_only_where_seen_right_and_fast(
    safe: tuple[str, ...], capability: str, backend: Backend, expected: str
) -> None:
    stack = Stack(compute_capability=capability)
    report = gpu_report("ok", dtypes=formats(*safe), stack=stack, backend=backend)
    assert choose_dtype(report, Settings()).choice == expected


def test_metal_stays_in_float32() -> None:
    report = gpu_report("ok", device="mps", backend="mps")
    assert choose_device(report, Settings()).choice == "mps"
    assert choose_dtype(report, Settings()).choice == "float32"


def test_force_cpu_wins_over_everything() -> None:
    settings = Settings(force_cpu=True, device="cuda", sample_route="gpu")
    routes = choose_routes(gpu_report(), settings)
    assert routes.device.choice == "cpu"
    assert routes.sample.choice == "cpu_subprocess"
    assert "FORCE_CPU" in routes.device.reason
    assert any("SAMPLE_ROUTE=gpu" in warning for warning in routes.warnings)


def test_device_cpu_is_no_cause_for_a_warning() -> None:
    routes = choose_routes(gpu_report(), Settings(device="cpu"))
    assert routes.device.choice == "cpu"
    assert routes.dtype.choice == "float32"
    assert routes.warnings == ()


@pytest.mark.parametrize("report", [dead_report("gpu_dead"), cpu_report()])
def test_device_is_obeyed_with_a_warning(report: ProbeReport) -> None:
    routes = choose_routes(report, Settings(device="cuda"))
    assert routes.device.choice == "cuda"
    assert report.verdict in (routes.device.warning or "")
    assert routes.dtype.choice == "float32"


def test_device_that_works_is_obeyed_in_silence() -> None:
    assert choose_device(gpu_report(), Settings(device="cuda")).warning is None


def test_precision_is_obeyed_with_a_warning_when_it_failed() -> None:
    report = gpu_report("dtype_unsafe", dtypes=formats("float32", "bfloat16"))
    choice = choose_dtype(report, Settings(precision="float16"))
    assert choice.choice == "float16"
    assert "gave NaN" in (choice.warning or "")
    assert choose_dtype(report, Settings(precision="bfloat16")).warning is None


def test_sample_route_is_obeyed_with_a_warning_when_the_fft_is_broken() -> None:
    choice = choose_sample_route(gpu_report("fft_hang"), Settings(sample_route="gpu"))
    assert choice.choice == "gpu"
    assert "fft_hang" in (choice.warning or "")
    calm = choose_sample_route(gpu_report(), Settings(sample_route="cpu"))
    assert (calm.choice, calm.warning) == ("cpu_subprocess", None)


@pytest.mark.parametrize("verdict", get_args(Verdict))
@pytest.mark.parametrize("device", ["auto", "cpu", "cuda"])
def test_every_choice_has_its_reason(verdict: Verdict, device: Any) -> None:
    routes = choose_routes(gpu_report(verdict), Settings(device=device))
    choices = (routes.device, routes.fft, routes.dtype, routes.sample)
    assert all(choice.choice and choice.reason for choice in choices)


def test_log_names_choices_and_says_warnings_loudly(caplog: pytest.LogCaptureFixture) -> None:
    routes = choose_routes(dead_report("gpu_dead"), Settings(device="cuda"))
    with caplog.at_level(logging.INFO):
        log_routes(routes)
    loud = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(loud) == len(routes.warnings) >= 1
    assert "number format: float32" in caplog.text
