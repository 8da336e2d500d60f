"""One worker process: its start, its log lines, its end.

Knows processes and pipes, not what is said over the socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from app.isolation import (
    child_environment,
    has_exited,
    kill_group,
    name_of_signal,
    python_command,
    signal_group,
    spawn_session,
    wait_for_exit,
)
from app.worker.order import WorkerOrder

_WORKER_MODULE = "app.worker.process"
#: Where the kernel has no pidfd, the process is looked at this often.
_POLL_S = 0.05
_KILL_WAIT_S = 1.0
_READ_BYTES = 1 << 16
_KEPT_LINES = 20
# A pipe holds 16 pages; more than this can't be left in it by a process that is gone.
_LAST_BLOCKS = 2
_LONGEST_LINE = 4000
_LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}
#: How the traceback of a deadly signal begins (faulthandler).
_FATAL = "Fatal Python error"

_log = logging.getLogger("app.worker")


class WorkerChild:
    """A started worker. Its output goes to the log `app.worker`, line by line."""

    def __init__(
        self,
        order: WorkerOrder,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        """Starts the process; to be called in the event loop's thread, which must live on.

        Args:
            order: what the worker reads on its standard input.
            env: additions to its environment.
            command: what runs it; our own module if empty.
        """
        self._loop = asyncio.get_running_loop()
        self._tail: deque[str] = deque(maxlen=_KEPT_LINES)
        self._partial = b""
        self._level = logging.INFO
        reader, writer = os.pipe()
        try:
            with tempfile.TemporaryFile() as stdin:
                stdin.write(msgspec.json.encode(order))
                stdin.seek(0)
                self._process = spawn_session(
                    command or python_command(_WORKER_MODULE),
                    child_environment(env),
                    stdin=stdin,
                    stdout=writer,
                    stderr=subprocess.STDOUT,
                )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._output: int | None = reader
        os.set_blocking(reader, False)
        self._loop.add_reader(reader, self._read_output)
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id, and the id of its group."""
        return self._process.pid

    @property
    def tail(self) -> str:
        """The last lines of output, joined."""
        return "\n".join(self._tail)

    async def wait(self, timeout_s: float) -> bool:
        """Waits until the process has ended; False when the time ran out."""
        deadline = self._loop.time() + timeout_s
        try:
            pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            return await self._poll(deadline)
        ended = self._loop.create_future()
        self._loop.add_reader(pidfd, _resolve, ended)
        try:
            await asyncio.wait({ended}, timeout=timeout_s)
            return has_exited(self._process)
        finally:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
            ended.cancel()

    def terminate(self) -> None:
        """Asks the process to finish what it does and leave."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the process and all that it started; does not wait."""
        if self._process.returncode is None:
            signal_group(self._process, signal.SIGKILL)

    def reap(self) -> str:
        """Takes the ended process off the system, with all that it left, and says how it ended.

        A process that is stuck in the kernel in spite of SIGKILL is left, and said to be so.
        """
        gone = has_exited(self._process) and kill_group(self._process)
        for _ in range(_LAST_BLOCKS):
            self._read_output()
        self._close_output()
        if not gone:
            return f"process {self.pid} is stuck in the kernel and can't be killed"
        code = self.returncode or 0
        return f"died of {name_of_signal(-code)}" if code < 0 else f"exited with code {code}"

    def kill_and_reap(self) -> None:
        """Ends the process for good, now; blocks for the moment that this takes."""
        self.kill()
        wait_for_exit(self._process, _KILL_WAIT_S)
        self.reap()

    @property
    def returncode(self) -> int | None:
        """The exit code; negative for a signal; None before `reap`."""
        return self._process.returncode

    async def _poll(self, deadline: float) -> bool:
        while not has_exited(self._process):
            if self._loop.time() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def _read_output(self) -> None:
        """Logs a block of what the worker wrote; at the end of it, closes the pipe."""
        if self._output is None:
            return
        with suppress(BlockingIOError):
            block = os.read(self._output, _READ_BYTES)
            if not block:
                self._close_output()
                return
            *lines, rest = (self._partial + block).split(b"\n")
            self._partial = rest[-_LONGEST_LINE:]
            self._log_lines(lines)

    def _log_lines(self, lines: list[bytes]) -> None:
        for line in lines:
            text = line[:_LONGEST_LINE].decode("utf-8", errors="replace").rstrip()
            self._tail.append(text)
            first, _, rest = text.partition(" ")
            # Lines without a level of their own, such as a traceback's, belong to the one before.
            self._level = _LEVELS.get(first, self._level)
            if text.startswith(_FATAL):
                self._level = logging.ERROR
            _log.log(self._level, "%s", rest if first in _LEVELS else text)

    def _close_output(self) -> None:
        if self._output is None:
            return
        self._loop.remove_reader(self._output)
        os.close(self._output)
        self._output = None
        if self._partial:
            self._log_lines([self._partial])
            self._partial = b""


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
