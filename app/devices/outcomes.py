"""What became of each stage of a probe, read from the lines of one child and its end.

The bridge between events and a verdict: a stage was right, wrong, failed, hung or crashed, each
with its evidence. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from app.devices.child_run import ChildRun
from app.devices.faults import Fault, classify_exit, classify_fault
from app.devices.operations import START
from app.devices.progress import (
    Event,
    Failed,
    Finished,
    Measured,
    OperationBegun,
    StageBegun,
    StageDone,
)
from app.devices.report import Evidence
from app.isolation import name_of_signal

OutcomeKind = Literal["right", "wrong", "failed", "hung", "crashed"]

#: Evidence kept a stage; a device that gets everything wrong need not say it a hundred times.
_MAX_EVIDENCE = 6
_STDERR_LINES = 3
_PYTHON_TRACEBACK = "Fatal Python error"


@dataclass
class Outcome:
    """What became of one stage."""

    stage: str
    kind: OutcomeKind = "right"
    finished: bool = False
    duration_s: float = 0.0
    difference: float | None = None  # the largest of the stage's operations
    evidence: list[Evidence] = field(default_factory=list)
    fault: Fault | None = None
    out_of_time: bool = False  # stopped for the sake of the whole, not for what it did

    @property
    def ended_child(self) -> bool:
        """True when the child went no further than this stage."""
        return self.kind in ("failed", "hung", "crashed")


def outcomes_of(run: ChildRun) -> dict[str, Outcome]:
    """Returns the outcome of every stage that the child began, in its order."""
    outcomes: dict[str, Outcome] = {}
    now = Outcome(START)
    operation = OperationBegun("start of the process", "float32")
    for event in run.events:
        if isinstance(event, StageBegun):
            now = outcomes.setdefault(event.stage, Outcome(event.stage))
            operation = OperationBegun(f"start of {event.stage}", "float32")
        elif isinstance(event, OperationBegun):
            operation = event
        elif isinstance(event, Measured):
            _take_measurement(now, operation, event)
        elif isinstance(event, StageDone):
            now.duration_s, now.finished = event.duration_s, True
        elif isinstance(event, Failed):
            _take_error(now, operation, event)
    if not _came_to_an_end(run.events):
        outcomes.setdefault(now.stage, now)
        _take_end(now, operation, run)
    return outcomes


def _came_to_an_end(events: tuple[Event, ...]) -> bool:
    return bool(events) and isinstance(events[-1], Finished | Failed)


def _take_measurement(outcome: Outcome, operation: OperationBegun, seen: Measured) -> None:
    if seen.difference is not None:
        outcome.difference = max(seen.difference, outcome.difference or 0.0)
    if seen.right:
        return
    outcome.kind = "wrong"
    if len(outcome.evidence) < _MAX_EVIDENCE:
        outcome.evidence.append(_evidence(outcome.stage, operation, _describe_wrong(seen), seen))


def _describe_wrong(seen: Measured) -> str:
    if seen.all_zero:
        return "the result is all zeros"
    if seen.difference is None:
        return "the result has NaN or infinity in it, or the wrong shape"
    return f"the result is off by {seen.difference:.2g} of the largest true value"


def _take_error(outcome: Outcome, operation: OperationBegun, event: Failed) -> None:
    outcome.kind = "failed"
    outcome.fault = classify_fault(event.text, event.free_bytes)
    outcome.evidence.append(
        _evidence(outcome.stage, operation, event.text, free_bytes=event.free_bytes)
    )


def _take_end(outcome: Outcome, operation: OperationBegun, run: ChildRun) -> None:
    """The child fell silent or died, without a word of its own."""
    if run.fell_silent:
        outcome.kind = "hung"
        outcome.out_of_time = run.out_of_time
        detail = f"did not come back within {run.silent_for_s:.0f} s"
        if run.returncode is None:
            detail += ", and could not be killed either (stuck in the driver)"
    else:
        outcome.kind = "crashed"
        outcome.fault = classify_exit(run.signal)
        detail = _describe_death(run)
    outcome.evidence.append(_evidence(outcome.stage, operation, detail))


def _describe_death(run: ChildRun) -> str:
    how = (
        f"the process died of {name_of_signal(run.signal)}"
        if run.signal is not None
        else f"the process ended with code {run.returncode}"
    )
    # A C++ abort says why on stderr, just before Python's own traceback of the signal; the
    # traceback itself names only our lines.
    said = run.stderr.partition(_PYTHON_TRACEBACK)[0]
    last = [line.strip() for line in said.splitlines() if line.strip()][-_STDERR_LINES:]
    return ": ".join((how, " ".join(last))) if last else how


def _evidence(
    stage: str,
    operation: OperationBegun,
    detail: str,
    seen: Measured | None = None,
    free_bytes: int | None = None,
) -> Evidence:
    return Evidence(
        stage=stage,
        operation=operation.operation,
        detail=detail,
        dtype=operation.dtype,
        batch=operation.batch,
        length_s=operation.length_s,
        call=operation.call,
        difference=seen.difference if seen else None,
        limit=seen.limit if seen else None,
        free_bytes=free_bytes,
    )
