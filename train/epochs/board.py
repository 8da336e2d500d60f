"""TensorBoard for the time of a run: started by itself, gone with it.

A child process with its own session. It is a convenience: whatever becomes of it costs a word.
"""

from __future__ import annotations

import logging
import socket
import subprocess
from pathlib import Path

from app.isolation import (
    child_environment,
    has_exited,
    kill_group,
    python_command,
    spawn_session,
)

_HOST = "127.0.0.1"
_GRACE_S = 2.0
_log = logging.getLogger(__name__)


class Board:
    """A TensorBoard over a folder of runs.

    Args:
        runs_dir: the folder; later runs appear by themselves.
        port: where it listens, on this machine only; 0 takes a free one.
    """

    def __init__(self, runs_dir: Path, port: int) -> None:
        self._runs_dir = runs_dir
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where to look; empty while it does not run."""
        if self._process is None or has_exited(self._process):
            return ""
        return f"http://{_HOST}:{self._port}"

    def start(self) -> str:
        """Starts it, unless its port is taken; returns what to tell the user."""
        port, fault = _find_port(self._port)
        if fault:
            return (
                f"TensorBoard is not started: port {self._port} can't be had ({fault}). Training "
                "goes on; if another TensorBoard has it, that one may show this run too. "
                "TENSORBOARD_PORT names another port."
            )
        self._port = port
        self._runs_dir.mkdir(parents=True, exist_ok=True)
        arguments = ("--logdir", str(self._runs_dir), "--host", _HOST, "--port", str(port))
        try:
            self._process = spawn_session(
                python_command("train.epochs.board_child", *arguments), child_environment()
            )
        except OSError as error:
            return f"TensorBoard is not started: {error}. Training goes on."
        return f"TensorBoard: http://{_HOST}:{port} shows this run while it lasts."

    def stop(self) -> None:
        """Ends it and all that it started."""
        if self._process is not None:
            kill_group(self._process, _GRACE_S)
            self._process = None


def _find_port(port: int) -> tuple[int, str]:
    """Returns the port that can be bound now, and why not where none can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            return port, (error.strerror or str(error)).lower()
        found: int = probe.getsockname()[1]
        return found, ""
