"""Entry of the probe's child: says that it lives before it imports anything heavy.

Lines for the parent go out on the stdout it was given; whatever libraries print goes to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from app.devices.operations import START, WORK_STAGES
from app.devices.progress import Event, Failed, StageBegun, StageDone, encode_event
from app.isolation import die_with_parent


def main(arguments: list[str] | None = None) -> int:
    """Runs the stages asked for; 0 when all were run, 1 when one raised."""
    parser = argparse.ArgumentParser(description="tries a compute device out; may die of it")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--stages", nargs="*", default=list(WORK_STAGES))
    options = parser.parse_args(arguments)
    die_with_parent()
    tell = _take_stdout()
    started = time.monotonic()
    tell(StageBegun(START))
    try:
        from app.devices.probe_child.runner import run_stages
    except (ImportError, OSError) as error:  # a torch that lacks a library says so in either
        tell(Failed(f"torch can't be imported: {error}", None))
        return 1
    tell(StageDone(START, time.monotonic() - started))
    return 0 if run_stages(options.device, options.stages, tell) else 1


def _take_stdout() -> Callable[[Event], None]:
    """Keeps stdout for events alone and points everybody else's to stderr."""
    channel = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(event: Event) -> None:
        with suppress(BrokenPipeError):  # the parent is gone, and the kernel is about to end us
            os.write(channel, encode_event(event) + b"\n")

    return tell


if __name__ == "__main__":
    sys.exit(main())
