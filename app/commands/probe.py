"""`python -m app probe`: what the GPU stack can be trusted with, and where work goes for it."""

from __future__ import annotations

import argparse

from app.commands.terminal import say
from app.devices.command import add_probe_arguments, run_probe_command
from app.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_probe_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Probes, prints a table, and returns 0 (no fault), 1 (fault) or 3 (not known)."""
    return run_probe_command(arguments, settings, say)
