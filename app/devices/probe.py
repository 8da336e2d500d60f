"""Finds out what a compute device can be trusted with, by trying it in a process that may die.

The parent's side, without torch: runs children until every stage had its turn, judges, remembers.
A child that dies or hangs in one stage is followed by a fresh one for the stages after it, so one
fault never hides another. A report is remembered under the fingerprint of the whole stack, unless
another try might say otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from app.devices.child_run import ChildRun, Deadlines, run_probe_child
from app.devices.classify import report_of
from app.devices.fingerprint import fingerprint
from app.devices.operations import CONTEXT, START, WORK_STAGES
from app.devices.outcomes import Outcome, outcomes_of
from app.devices.report import ProbeReport
from app.errors import DeviceError
from app.files import write_atomic
from app.isolation import python_command
from app.settings import Settings

#: How a worker begins its words while it waits for a probe.
PROBING = "trying out"
CHILD_MODULE = "app.devices.probe_child"
#: Nothing can be learnt of later stages when one of these broke.
_GROUND = (START, CONTEXT, "float32")
_NUM_HEX_IN_NAME = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbePlan:
    """How a probe is run; the defaults are those of production, tests shorten and replace."""

    command: tuple[str, ...] = ()  # what runs the child, without its arguments; ours if empty
    stages: tuple[str, ...] = WORK_STAGES
    deadlines: Deadlines = field(default_factory=Deadlines)


def probe(
    settings: Settings, device: str, use_cache: bool = True, plan: ProbePlan | None = None
) -> ProbeReport:
    """Returns what the device can be trusted with. Blocks: seconds when cold, < 50 ms when cached.

    Args:
        settings: where the cache lies.
        device: auto (the GPU, else the CPU), cuda, mps or cpu; `privateuseone` is refused in words.
        use_cache: False tries anew, and remembers the new report.
        plan: how to run it, for tests.

    Raises:
        DeviceError: torch itself can't be imported; not even the CPU will do then.
    """
    stack = fingerprint()
    path = cache_path(settings, device, stack)
    if use_cache and (known := _read_report(path, stack)) is not None:
        return known.as_cached()
    started = time.monotonic()
    report = _probe_now(device, plan or ProbePlan())
    report = replace(
        report,
        fingerprint=stack,
        duration_s=time.monotonic() - started,
        probed_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    _log.info("probe of %s: %s in %.1f s. %s", *_summary(report))
    _remember(path, report)
    return report


def cached_report(settings: Settings, device: str) -> ProbeReport | None:
    """Returns what is remembered of this stack, without starting anything; None if nothing is."""
    stack = fingerprint()
    known = _read_report(cache_path(settings, device, stack), stack)
    return known.as_cached() if known else None


def forget(settings: Settings, device: str) -> None:
    """Drops what is remembered, because an error at run time smells of a change."""
    cache_path(settings, device, fingerprint()).unlink(missing_ok=True)


def cache_path(settings: Settings, device: str, stack: str) -> Path:
    """Returns where the report on a device of a stack (its fingerprint) is kept."""
    safe_device = "".join(char if char.isalnum() else "-" for char in device)
    return settings.cache_dir / "probe" / f"{safe_device}-{stack[:_NUM_HEX_IN_NAME]}.json"


def _probe_now(device: str, plan: ProbePlan) -> ProbeReport:
    runs: list[ChildRun] = []
    outcomes: dict[str, Outcome] = {}
    remaining = plan.stages
    while True:
        run = _run_child(device, remaining, plan)
        runs.append(run)
        found = outcomes_of(run)
        _refuse_without_torch(found)
        # A later child opens the device again; what the first one said of that stays.
        outcomes |= {name: o for name, o in found.items() if name not in outcomes or o.ended_child}
        broken = next((o for o in found.values() if o.ended_child), None)
        if broken is None or broken.stage in _GROUND or _is_over(broken, run):
            break
        remaining = remaining[remaining.index(broken.stage) + 1 :]
        if not remaining:
            break
    return report_of(device, [event for run in runs for event in run.events], outcomes)


def _run_child(device: str, stages: Sequence[str], plan: ProbePlan) -> ChildRun:
    command = list(plan.command) or python_command(CHILD_MODULE)
    return run_probe_child([*command, "--device", device, "--stages", *stages], plan.deadlines)


def _is_over(broken: Outcome, run: ChildRun) -> bool:
    """True when another child would meet the same: no device, no memory, or no end of a child."""
    hopeless = ("device_lost", "out_of_memory", "host_out_of_memory")
    return run.returncode is None or (broken.fault is not None and broken.fault.kind in hopeless)


def _refuse_without_torch(outcomes: dict[str, Outcome]) -> None:
    start = outcomes.get(START)
    if start is not None and start.kind in ("failed", "crashed"):
        raise DeviceError(
            f"torch does not start in this environment: {start.evidence[0].detail}. "
            "Reinstall torch and torchaudio in the versions of pyproject.toml.",
            code="torch_broken",
        )


def _read_report(path: Path, stack: str) -> ProbeReport | None:
    try:
        report = ProbeReport.from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("the remembered probe %s can't be read and is made anew: %s", path, error)
        return None
    return report if report.fingerprint == stack else None


def _remember(path: Path, report: ProbeReport) -> None:
    try:
        if report.conclusive:
            write_atomic(path, report.to_json())
        else:
            path.unlink(missing_ok=True)
    except OSError as error:  # a read-only place costs a probe at each start, nothing else
        _log.warning("the probe can't be remembered in %s: %s", path.parent, error)


def _summary(report: ProbeReport) -> tuple[str, str, float, str]:
    return report.device, report.verdict, report.duration_s, report.detail
