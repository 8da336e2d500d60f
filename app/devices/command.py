"""`python -m app probe`: tries the device and says what it found and where the work will go.

Exit codes: 0 nothing wrong (a machine without a GPU included), 1 a fault was found and the work
goes around it, 3 not to be told now (little memory, a lost GPU, a deadline of the whole). Code 2
is left to the caller, for wrong settings.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import msgspec

from app.devices.probe import ProbePlan, probe
from app.devices.report import ProbeReport
from app.devices.routes import Routes, choose_routes
from app.devices.table import report_lines
from app.settings import Settings

EXIT_RIGHT = 0
EXIT_FAULT = 1
EXIT_INCONCLUSIVE = 3


def add_probe_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--device", help="auto, cuda, mps or cpu (DEVICE)")
    parser.add_argument("--fresh", action="store_true", help="try anew, whatever is remembered")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, last line")


def run_probe_command(
    arguments: argparse.Namespace,
    settings: Settings,
    say: Callable[[str], None],
    plan: ProbePlan | None = None,
) -> int:
    """Probes, prints a table, and with `--json` one line of JSON last.

    Args:
        arguments: what `add_probe_arguments` takes.
        settings: DEVICE and the overrides of the routes.
        say: prints a line for a person or a program.
        plan: how to probe, for tests.

    Returns:
        The exit code, as the module's docstring says.

    Raises:
        DeviceError: torch itself can't be imported.
    """
    device = arguments.device or settings.device
    report = probe(settings, device, use_cache=not arguments.fresh, plan=plan)
    routes = choose_routes(report, settings)
    for line in report_lines(report, routes):
        say(line)
    if arguments.json:
        say(msgspec.json.encode(describe(report, routes)).decode())
    return exit_code(report)


def describe(report: ProbeReport, routes: Routes) -> dict[str, Any]:
    """Returns report and routes as plain data: what `--json` prints and the API may serve."""
    data: dict[str, Any] = msgspec.to_builtins(report)
    return {**data, "routes": msgspec.to_builtins(routes), "warnings": list(routes.warnings)}


def exit_code(report: ProbeReport) -> int:
    """Returns the code a probe ends with."""
    if not report.conclusive:
        return EXIT_INCONCLUSIVE
    return EXIT_RIGHT if report.verdict in ("ok", "no_gpu") else EXIT_FAULT
