"""Every fault of a GPU stack, made for real in a child: its class, its time, nobody left behind.

The children run on the CPU, which plays the device. They start when the first test needs them,
two at a time, because each imports torch.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

import app.devices.probe as probe_module
from app.devices.child_run import ChildRun, Deadlines, run_probe_child
from app.devices.probe import ProbePlan, cached_report, probe
from app.devices.report import ProbeReport, Verdict
from app.devices.routes import choose_routes
from app.errors import DeviceError
from app.settings import Settings

RUN = Path(__file__).resolve().parents[1] / "faults" / "run.py"
#: Long enough for a busy machine, short enough to wait for.
PATIENT = Deadlines(start_s=90, operation_s=30, total_s=180)
BRISK = Deadlines(start_s=90, operation_s=5, total_s=180)
#: The stages that a broken FFT can be told from.
FFT_ONLY = ("float32", "dft", "fft")


@dataclass(frozen=True)
class Case:
    """A fault with what the probe must make of it."""

    verdict: Verdict
    words: str  # in the evidence
    operation: str  # in flight when it happened
    remembered: bool = True
    stages: tuple[str, ...] = FFT_ONLY
    deadlines: Deadlines = PATIENT
    num_children: int = 1


CASES = {
    "fft_error": Case("fft_error", "CUFFT_INVALID_SIZE", "stft 512/400/160 hamming"),
    "fft_error_by_memory": Case("low_memory", "CUFFT_INTERNAL_ERROR", "stft 512", False),
    "fft_zeros": Case("fft_wrong", "all zeros", "stft 512/400/160 hamming"),
    "fft_wrong_second_call": Case("fft_wrong", "off by", "stft 512/400/160 hamming"),
    "fft_hang": Case("fft_hang", "did not come back within 5 s", "stft 512", deadlines=BRISK),
    "fft_segv": Case("fft_crash", "SIGSEGV", "stft 512/400/160 hamming"),
    "fft_abort": Case("fft_crash", "CUFFT_INVALID_PLAN", "stft 512/400/160 hamming"),
    "killed_for_memory": Case("low_memory", "SIGKILL", "stft 512", False),
    "float16_nan": Case("dtype_unsafe", "NaN", "gpt", stages=("float32", "bfloat16", "float16")),
    "bfloat16_abort_and_fft_error": Case(
        "fft_error",
        "SIGABRT",
        "gpt prompt of 64",
        stages=("float32", "bfloat16", "float16", "dft", "fft"),
        num_children=2,
    ),
    "float32_wrong": Case("dtype_unsafe", "off by", "gpt prompt of 64"),
    "no_kernel_image": Case("no_kernel_image", "no kernel image", "first kernel"),
    "device_vanishes": Case("gpu_lost", "CUDA unknown error", "gpt prompt of 64", False),
    "first_kernel_hangs": Case(
        "gpu_dead", "did not come back", "first kernel", False, deadlines=BRISK
    ),
    "little_memory": Case("low_memory", "", "", False),
    "memory_runs_out": Case("low_memory", "allocate memory", "stft 512", False),
    "import_hangs": Case(
        "gpu_dead", "did not come back", "start of the", False, deadlines=Deadlines(2, 2, 9)
    ),
}


@dataclass
class Tried:
    """What one probe of a broken stack gave."""

    settings: Settings
    report: ProbeReport
    runs: list[ChildRun] = field(default_factory=list)
    took_s: float = 0.0


def broken_command(fault: str) -> tuple[str, ...]:
    """The command of a probe child in whose process torch is broken."""
    return (sys.executable, str(RUN), fault, "app.devices.probe_child")


def try_fault(name: str, folder: Path) -> Tried:
    case = CASES[name]
    settings = Settings(cache_dir=folder / name)
    plan = ProbePlan(broken_command(name), case.stages, case.deadlines)
    started = time.monotonic()
    report = probe(settings, "cpu", plan=plan)
    return Tried(settings, report, took_s=time.monotonic() - started)


@pytest.fixture(scope="module")
def runs_by_command() -> Iterator[list[tuple[list[str], ChildRun]]]:
    """Every child that any probe of this module starts, as it really ran."""
    seen: list[tuple[list[str], ChildRun]] = []

    def recorded(argv: list[str], deadlines: Deadlines) -> ChildRun:
        run = run_probe_child(argv, deadlines)
        seen.append((argv, run))
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_module, "run_probe_child", recorded)
        yield seen


@pytest.fixture(scope="module")
def trials(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    runs_by_command: list[tuple[list[str], ChildRun]],
) -> Iterator[dict[str, Future[Tried]]]:
    """All faults that the chosen tests ask for, two children at a time."""
    folder = tmp_path_factory.mktemp("probes")
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = {spec.params["fault"] for spec in specs if spec and "fault" in spec.params}
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {name: pool.submit(try_fault, name, folder) for name in CASES if name in wanted}


@pytest.fixture
def tried(
    fault: str,
    trials: dict[str, Future[Tried]],
    runs_by_command: list[tuple[list[str], ChildRun]],
) -> Tried:
    trial = trials[fault].result()
    trial.runs = [run for argv, run in runs_by_command if fault in argv]
    return trial


def living_members(group: int) -> list[int]:
    """Processes of the group that still run; a dead one that init has not reaped is no matter."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members


@pytest.mark.parametrize("fault", CASES)
def test_fault_gets_its_class_and_leaves_nobody(fault: str, tried: Tried) -> None:
    case, report = CASES[fault], tried.report
    assert report.verdict == case.verdict, report
    if case.words:
        assert any(case.words in evidence.detail for evidence in report.evidence), report.evidence
        assert report.evidence[0].operation.startswith(case.operation)
    assert len(tried.runs) == case.num_children
    for run in tried.runs:
        assert living_members(run.pid) == []
    assert (cached_report(tried.settings, "cpu") is not None) == case.remembered


@pytest.mark.parametrize("fault", ["fft_hang", "first_kernel_hangs", "import_hangs"])
def test_hang_is_ended_at_its_deadline(fault: str, tried: Tried) -> None:
    deadlines = CASES[fault].deadlines
    limit_s = deadlines.start_s if fault == "import_hangs" else deadlines.operation_s
    (run,) = tried.runs
    assert run.fell_silent
    assert limit_s <= run.silent_for_s < limit_s + 2


@pytest.mark.parametrize(
    "fault", [name for name, case in CASES.items() if case.verdict.startswith("fft_")]
)
def test_broken_fft_moves_the_ffts_and_nothing_else(fault: str, tried: Tried) -> None:
    report = tried.report
    assert report.fft_right is False
    assert report.dft_right is True
    assert report.is_safe("float32")
    assert choose_routes(report, tried.settings).fft.choice == "dft"


@pytest.mark.parametrize("fault", ["fft_wrong_second_call"])
def test_stale_plan_is_blamed_on_the_second_call(fault: str, tried: Tried) -> None:
    assert {evidence.call for evidence in tried.report.evidence} == {2}
    assert all((e.difference or 0) > (e.limit or 1) for e in tried.report.evidence)


@pytest.mark.parametrize("fault", ["float16_nan"])
def test_only_the_format_that_fails_is_unsafe(fault: str, tried: Tried) -> None:
    safe = {result.dtype: result.safe for result in tried.report.dtypes}
    assert safe == {"float32": True, "bfloat16": True, "float16": False}


@pytest.mark.parametrize("fault", ["bfloat16_abort_and_fft_error"])
def test_one_fault_does_not_hide_the_other(fault: str, tried: Tried) -> None:
    safe = {result.dtype: result.safe for result in tried.report.dtypes}
    assert safe == {"float32": True, "bfloat16": False, "float16": True}
    assert tried.report.evidence[0].stage == "bfloat16"
    assert tried.report.evidence[-1].stage == "fft"


def test_missing_torch_is_an_error_that_names_the_cure(tmp_path: Path) -> None:
    plan = ProbePlan(broken_command("torch_missing"))
    with pytest.raises(DeviceError, match="Reinstall torch"):
        probe(Settings(cache_dir=tmp_path), "cpu", plan=plan)
