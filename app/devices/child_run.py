"""Runs one probe child and reads its lines until it ends, dies or falls silent.

Whatever happens, nothing of the child survives the call. Judges nothing (see `classify`).
"""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from app.devices.operations import START
from app.devices.progress import Event, StageBegun, decode_event
from app.isolation import child_environment, has_exited, kill_group, spawn_session, wait_for_exit

_READ_BYTES = 1 << 16
_STDERR_BYTES = 2000


@dataclass(frozen=True)
class Deadlines:
    """Longest silence of a child in seconds, and the longest that one child may take in all.

    The start has its own: importing torch from a cold disk takes its time, and so does the first
    use of each CUDA library, which counts as part of its first operation.
    """

    start_s: float = 90.0
    operation_s: float = 20.0
    total_s: float = 180.0
    leave_s: float = 10.0  # from the last line to the end: torch takes its time to unload


@dataclass(frozen=True)
class ChildRun:
    """What one child told and how it ended."""

    events: tuple[Event, ...]
    returncode: int | None  # None: killed, and still stuck in the kernel
    signal: int | None  # the signal it died of by itself; None after a kill of ours
    fell_silent: bool  # a deadline passed and it was killed
    silent_for_s: float
    out_of_time: bool  # what passed was the deadline for the whole child, not that for a silence
    stderr: str  # the end of it
    pid: int  # also the id of its process group
    duration_s: float


def run_probe_child(argv: Sequence[str], deadlines: Deadlines) -> ChildRun:
    """Runs the child to its end or its deadline.

    Args:
        argv: the program and its arguments; it writes `progress` lines to its stdout.
        deadlines: how long it may be silent, and take in all.

    Raises:
        OSError: the program cannot be started.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as err:
        process = spawn_session(argv, child_environment(), stdout=subprocess.PIPE, stderr=err)
        reader = _Reader(process, deadlines, started)
        try:
            events = tuple(reader.events())
            if not reader.fell_silent:
                wait_for_exit(process, deadlines.leave_s)
        finally:
            kill_group(process)
            if process.stdout is not None:
                process.stdout.close()
        code = process.returncode
        died = code is not None and code < 0 and not reader.fell_silent
        return ChildRun(
            events=events,
            returncode=code,
            signal=-code if died and code is not None else None,
            fell_silent=reader.fell_silent,
            silent_for_s=reader.silent_for_s,
            out_of_time=reader.out_of_time,
            stderr=_end_of(err),
            pid=process.pid,
            duration_s=time.monotonic() - started,
        )


class _Reader:
    """Turns a child's stdout into events, as long as it keeps to its deadlines."""

    def __init__(
        self, process: subprocess.Popen[bytes], deadlines: Deadlines, started: float
    ) -> None:
        self.fell_silent = False
        self.silent_for_s = 0.0
        self.out_of_time = False
        self._process = process
        self._stdout = process.stdout
        self._deadlines = deadlines
        self._end = started + deadlines.total_s
        self._stage = START

    def events(self) -> Iterator[Event]:
        """Yields events until the child closes its end, or a deadline passes."""
        rest = b""
        while (block := self._next_block()) is not None:
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if (event := decode_event(line)) is not None:
                    if isinstance(event, StageBegun):
                        self._stage = event.stage
                    yield event

    def _next_block(self) -> bytes | None:
        """Returns the next bytes; None at the end of the stream or of our patience."""
        assert self._stdout is not None
        limit_s = self._deadlines.start_s if self._stage == START else self._deadlines.operation_s
        asked = time.monotonic()
        timeout_s = max(0.0, min(limit_s, self._end - asked))
        ready, _, _ = select.select([self._stdout], [], [], timeout_s)
        if not ready and has_exited(self._process):  # a grandchild holds the stream open
            return None
        if not ready:
            self.fell_silent = True
            self.silent_for_s = time.monotonic() - asked
            self.out_of_time = timeout_s < limit_s
            return None
        return os.read(self._stdout.fileno(), _READ_BYTES) or None


def _end_of(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _STDERR_BYTES))
    return stream.read().decode("utf-8", errors="replace").strip()
