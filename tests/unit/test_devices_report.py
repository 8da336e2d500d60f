"""A report survives JSON, and what its events amount to follows one order of importance."""

from __future__ import annotations

import pytest

from app.devices.child_run import ChildRun
from app.devices.classify import judge, report_of
from app.devices.faults import classify_fault
from app.devices.outcomes import Outcome, OutcomeKind, outcomes_of
from app.devices.progress import (
    DeviceAbsent,
    DeviceChosen,
    Event,
    Failed,
    Finished,
    Measured,
    MemorySeen,
    OperationBegun,
    StackSeen,
    StageBegun,
    StageDone,
    decode_event,
    encode_event,
)
from app.devices.report import (
    MEANINGS,
    DtypeResult,
    Evidence,
    ProbeReport,
    Stack,
    StageTime,
    Verdict,
)

FULL = ProbeReport(
    verdict="fft_wrong",
    device="cuda",
    backend="cuda",
    detail="off by half",
    evidence=(Evidence("fft", "stft", "off", "float32", 8, 11.6, 2, 0.5, 1e-3, 1 << 33),),
    dtypes=(DtypeResult("float16", False, None, "gave NaN"),),
    fft_right=False,
    dft_right=True,
    stack=Stack(torch="2.7.1+cu118", kernel_targets=("sm_80", "sm_86")),
    free_bytes=1 << 33,
    total_bytes=1 << 34,
    stages=(StageTime("fft", 0.25),),
    duration_s=7.5,
    fingerprint="abc",
    probed_at="2026-01-01T00:00:00+00:00",
)


def run_with(*events: Event, **changes: object) -> ChildRun:
    facts = {
        "events": events,
        "returncode": 0,
        "signal": None,
        "fell_silent": False,
        "silent_for_s": 0.0,
        "out_of_time": False,
        "stderr": "",
        "pid": 1,
        "duration_s": 1.0,
    }
    return ChildRun(**{**facts, **changes})  # type: ignore[arg-type]


def broken(stage: str, kind: OutcomeKind, text: str = "", free: int | None = 1 << 34) -> Outcome:
    fault = classify_fault(text, free) if text else None
    return Outcome(stage, kind, evidence=[Evidence(stage, "an operation", "seen")], fault=fault)


def verdict_of(*outcomes: Outcome, memory: MemorySeen | None = None) -> Verdict:
    return judge({outcome.stage: outcome for outcome in outcomes}, memory).verdict


def test_report_survives_json() -> None:
    assert ProbeReport.from_json(FULL.to_json()) == FULL
    assert b"\n" not in FULL.to_json()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", FULL.to_json()[:-9], b'{"verdict": "fine"}'])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        ProbeReport.from_json(data)


def test_every_verdict_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Verdict.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "event",
    [
        StageBegun("fft"),
        OperationBegun("stft", "float32", 8, 0.33, 2),
        Measured(None, 1e-3, True),
        DeviceChosen("cuda", "rocm"),
        DeviceAbsent("gpu_lost", "cuda", "gone"),
        StackSeen(Stack(torch="2.7.1")),
        MemorySeen(1, None, False),
        Failed("RuntimeError: x\ny", None),
        Finished(),
    ],
)
def test_events_survive_their_line(event: Event) -> None:
    line = encode_event(event)
    assert b"\n" not in line
    assert decode_event(line) == event


@pytest.mark.parametrize("line", [b"", b"Loading ...", b"{}", b'{"type":"tea"}', b"\xff\xfe", b"3"])
def test_talk_of_libraries_is_no_event(line: bytes) -> None:
    assert decode_event(line) is None


@pytest.mark.parametrize(
    ("difference", "all_zero", "right"),
    [(1e-4, False, True), (2e-3, False, False), (None, False, False), (0.0, True, False)],
)
def test_measurement_is_right_only_when_finite_near_and_not_empty(
    difference: float | None, all_zero: bool, right: bool
) -> None:
    assert Measured(difference, 1e-3, all_zero).right is right


def test_nothing_broken_is_ok() -> None:
    assert verdict_of(Outcome("start"), Outcome("float32"), Outcome("fft")) == "ok"


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("wrong", "fft_wrong"),
        ("failed", "fft_error"),
        ("hung", "fft_hang"),
        ("crashed", "fft_crash"),
    ],
)
def test_fault_of_the_fft_stage(kind: OutcomeKind, verdict: Verdict) -> None:
    assert verdict_of(broken("fft", kind)) == verdict


def test_no_memory_and_lost_devices_outrank_what_they_cause() -> None:
    fft = broken("fft", "failed", "cuFFT error: CUFFT_INTERNAL_ERROR", 1 << 20)
    assert verdict_of(broken("float16", "wrong"), fft) == "low_memory"
    lost = broken("fft", "failed", "CUDA unknown error")
    assert verdict_of(broken("float16", "wrong"), lost) == "gpu_lost"
    assert verdict_of(Outcome("float32"), memory=MemorySeen(1 << 20, 1 << 34, False)) == (
        "low_memory"
    )


def test_dead_ground_outranks_the_fft() -> None:
    assert verdict_of(broken("float32", "crashed"), broken("fft", "wrong")) == "gpu_dead"
    assert verdict_of(broken("float32", "wrong"), broken("fft", "wrong")) == "dtype_unsafe"
    no_kernels = "no kernel image is available for execution on the device"
    assert verdict_of(broken("context", "failed", no_kernels)) == "no_kernel_image"


def test_broken_fft_outranks_an_unsafe_format() -> None:
    assert verdict_of(broken("float16", "wrong"), broken("fft", "wrong")) == "fft_wrong"


def test_hang_of_the_ground_may_be_a_busy_machine() -> None:
    assert judge({"context": broken("context", "hung")}).conclusive is False
    assert judge({"context": broken("context", "crashed")}).conclusive is True


def test_deadline_of_the_whole_is_not_held_against_the_fft() -> None:
    events = (StageBegun("fft"), OperationBegun("stft", "float32"))
    run = run_with(*events, fell_silent=True, out_of_time=True, returncode=-9)
    assert judge(outcomes_of(run)).conclusive is False


def test_child_that_cannot_be_killed_is_told() -> None:
    events = (StageBegun("fft"), OperationBegun("stft", "float32"))
    run = run_with(*events, fell_silent=True, returncode=None, silent_for_s=20.0)
    report = report_of("cuda", run.events, outcomes_of(run))
    assert report.verdict == "fft_hang"
    assert "stuck in the driver" in report.evidence[0].detail


def test_last_words_of_a_child_are_told_without_pythons_traceback() -> None:
    stderr = "UserWarning: old\n" * 5 + "terminate called\n  what(): CUFFT\n\n"
    stderr += "Fatal Python error: Aborted\nThread 0x1:\n  File runner.py"
    run = run_with(StageBegun("fft"), signal=6, returncode=-6, stderr=stderr)
    detail = outcomes_of(run)["fft"].evidence[0].detail
    assert detail.startswith("the process died of SIGABRT: ")
    assert detail.endswith("terminate called what(): CUFFT")


def test_absent_gpu_and_a_right_cpu_is_no_gpu() -> None:
    events = (
        StageBegun("context"),
        DeviceAbsent("no_gpu", "cuda", "none here"),
        DeviceChosen("cpu", "cpu"),
        StageDone("context", 0.1),
        StageBegun("float32"),
        OperationBegun("gpt", "float32"),
        Measured(1e-6, 5e-3),
        StageDone("float32", 0.1),
        Finished(),
    )
    report = report_of("auto", events, outcomes_of(run_with(*events)))
    assert (report.verdict, report.device, report.detail) == ("no_gpu", "cpu", "none here")
    assert report.is_safe("float32")
    assert report.dtype("bfloat16") == DtypeResult("bfloat16", None, None, "not tried")
    assert report.fft_right is None


def test_fault_of_the_cpu_shows_although_there_is_no_gpu() -> None:
    absent = DeviceAbsent("no_gpu", "cuda", "none here")
    outcomes = {"fft": broken("fft", "wrong")}
    assert judge(outcomes, None, absent, DeviceChosen("cpu", "cpu")).verdict == "fft_wrong"


def test_lost_gpu_is_never_remembered() -> None:
    absent = DeviceAbsent("gpu_lost", "cuda", "gone")
    finding = judge({}, None, absent, DeviceChosen("cpu", "cpu"))
    assert (finding.verdict, finding.conclusive) == ("gpu_lost", False)


def test_evidence_is_bounded() -> None:
    wrong = (OperationBegun("stft", "float32"), Measured(0.5, 1e-3)) * 40
    run = run_with(StageBegun("fft"), *wrong, StageDone("fft", 1.0), Finished())
    assert 1 <= len(outcomes_of(run)["fft"].evidence) <= 10
