"""From what became of each stage to a verdict on the device. Pure, and all of it in one table.

The order of the rules is the order of what matters: a device that is gone, dead, or without
memory says nothing about its FFTs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from app.devices.operations import CONTEXT, DFT, DTYPE_LIMITS, DTYPE_STAGES, FFT, START
from app.devices.outcomes import Outcome
from app.devices.progress import DeviceAbsent, DeviceChosen, Event, MemorySeen, StackSeen
from app.devices.report import (
    MEANINGS,
    Backend,
    DtypeName,
    DtypeResult,
    Evidence,
    ProbeReport,
    Stack,
    StageTime,
    Verdict,
)

EventT = TypeVar("EventT", DeviceAbsent, DeviceChosen, MemorySeen, StackSeen)


@dataclass(frozen=True)
class Finding:
    """A verdict, whether another try may say otherwise, and the sentence on this case."""

    verdict: Verdict
    detail: str
    conclusive: bool = True


def report_of(wanted: str, events: Sequence[Event], outcomes: Mapping[str, Outcome]) -> ProbeReport:
    """Makes the report of a probe.

    Args:
        wanted: the device asked for: auto, or a name of torch's.
        events: the lines of all its children.
        outcomes: what became of each stage; the last child's word on a stage counts.
    """
    absent = _last(events, DeviceAbsent)
    chosen = _last(events, DeviceChosen)
    memory = _last(events, MemorySeen)
    seen = _last(events, StackSeen)
    finding = judge(outcomes, memory, absent, chosen)
    refused = absent is not None and chosen is None
    return ProbeReport(
        verdict=finding.verdict,
        device=chosen.device if chosen else _presumed_device(wanted, refused),
        backend=_backend(absent, chosen),
        detail=finding.detail,
        evidence=_evidence_of(outcomes),
        dtypes=dtype_results(outcomes),
        fft_right=_is_right(outcomes.get(FFT)),
        dft_right=_is_right(outcomes.get(DFT)),
        stack=seen.stack if seen else Stack(),
        free_bytes=memory.free_bytes if memory else None,
        total_bytes=memory.total_bytes if memory else None,
        stages=tuple(StageTime(o.stage, o.duration_s) for o in outcomes.values()),
        conclusive=finding.conclusive,
    )


def judge(
    outcomes: Mapping[str, Outcome],
    memory: MemorySeen | None = None,
    absent: DeviceAbsent | None = None,
    chosen: DeviceChosen | None = None,
) -> Finding:
    """Returns the verdict on what was seen; the first rule that fits decides."""
    finding = (
        _judge_errors(outcomes)
        or _judge_memory(memory)
        or _judge_ground(outcomes)
        or _judge_fft(outcomes.get(FFT))
        or _judge_formats(outcomes)
    )
    if finding is None and absent is not None:
        return Finding(_absence_verdict(absent), absent.detail, absent.verdict != "gpu_lost")
    if finding is None:
        return Finding("ok", MEANINGS["ok"])
    if absent is not None and chosen is None:
        return Finding(_absence_verdict(absent), absent.detail, finding.conclusive)
    return finding


def dtype_results(outcomes: Mapping[str, Outcome]) -> tuple[DtypeResult, ...]:
    """Returns what was found of each number format."""
    return tuple(_dtype_result(name, outcomes.get(name)) for name in DTYPE_STAGES)


def _judge_errors(outcomes: Mapping[str, Outcome]) -> Finding | None:
    """Errors whose kind says more than the stage they came in."""
    for outcome in outcomes.values():
        kind = outcome.fault.kind if outcome.fault else None
        if outcome.fault is None or kind is None:
            continue
        where = f"{outcome.evidence[-1].operation}: {outcome.fault.reason}"
        if kind == "device_lost":
            return Finding("gpu_lost", f"{where}.", conclusive=False)
        if kind in ("out_of_memory", "host_out_of_memory"):
            return Finding("low_memory", f"{where}.", conclusive=False)
        if kind == "no_kernel_image" and outcome.stage != FFT:
            return Finding("no_kernel_image", f"{where}.")
    return None


def _judge_memory(memory: MemorySeen | None) -> Finding | None:
    if memory is None or memory.enough or memory.free_bytes is None:
        return None
    free_mb = memory.free_bytes / 2**20
    return Finding("low_memory", f"Only {free_mb:.0f} MB are free on the device.", False)


def _judge_ground(outcomes: Mapping[str, Outcome]) -> Finding | None:
    """What everything stands on: torch, the device's context, and float32."""
    for stage in (START, CONTEXT, "float32"):
        outcome = outcomes.get(stage)
        if outcome is None or outcome.kind == "right":
            continue
        if outcome.kind == "wrong":
            return Finding("dtype_unsafe", f"float32 is wrong: {_first_detail(outcome)}.")
        # Silence here may be a cold disk or a busy machine, so it is not held against the device
        # for longer than this once.
        return Finding("gpu_dead", f"{_first_detail(outcome)}.", outcome.kind != "hung")
    return None


def _judge_fft(outcome: Outcome | None) -> Finding | None:
    if outcome is None or outcome.kind == "right":
        return None
    verdicts: dict[str, Verdict] = {
        "wrong": "fft_wrong",
        "failed": "fft_error",
        "hung": "fft_hang",
        "crashed": "fft_crash",
    }
    return Finding(verdicts[outcome.kind], f"{_first_detail(outcome)}.", not outcome.out_of_time)


def _judge_formats(outcomes: Mapping[str, Outcome]) -> Finding | None:
    unsafe = [r for r in dtype_results(outcomes) if r.safe is False]
    if not unsafe:
        return None
    conclusive = not any(outcome.out_of_time for outcome in outcomes.values())
    return Finding("dtype_unsafe", " ".join(f"{r.dtype}: {r.reason}." for r in unsafe), conclusive)


def _dtype_result(dtype: DtypeName, outcome: Outcome | None) -> DtypeResult:
    if outcome is None or (outcome.kind == "right" and not outcome.finished):
        return DtypeResult(dtype, None, None, "not tried")
    if outcome.kind == "right":
        limit = DTYPE_LIMITS[dtype]
        reason = f"within {limit:.1g} of the largest true value"
        return DtypeResult(dtype, True, outcome.difference, reason)
    return DtypeResult(dtype, False, outcome.difference, _first_detail(outcome))


def _first_detail(outcome: Outcome) -> str:
    first = outcome.evidence[0]
    return f"{first.operation}: {first.detail}"


def _evidence_of(outcomes: Mapping[str, Outcome]) -> tuple[Evidence, ...]:
    return tuple(evidence for outcome in outcomes.values() for evidence in outcome.evidence)


def _is_right(outcome: Outcome | None) -> bool | None:
    if outcome is None or (outcome.kind == "right" and not outcome.finished):
        return None
    if outcome.fault and outcome.fault.kind in ("out_of_memory", "host_out_of_memory"):
        return None
    return outcome.kind == "right"


def _absence_verdict(absent: DeviceAbsent) -> Verdict:
    verdicts: dict[str, Verdict] = {"gpu_lost": "gpu_lost", "gpu_dead": "gpu_dead"}
    return verdicts.get(absent.verdict, "no_gpu")


def _backend(absent: DeviceAbsent | None, chosen: DeviceChosen | None) -> Backend:
    if chosen is not None:
        return chosen.backend
    return absent.backend if absent else "unknown"


def _presumed_device(wanted: str, refused: bool) -> str:
    """The device in play when the child died before it could name it."""
    if refused:
        return "cpu"
    return "cuda" if wanted == "auto" else wanted


def _last(events: Sequence[Event], kind: type[EventT]) -> EventT | None:
    return next((event for event in reversed(events) if isinstance(event, kind)), None)
