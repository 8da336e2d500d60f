"""The api process's socket: a ROUTER at an address that only this user can reach.

Knows ZeroMQ, not what is said.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio

_FOLDER_PREFIX = "audio-voice-"
_SOCKET_NAME = "engine"
_SHORT_FOLDER = Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder inside it
_TCP_LOOPBACK = "tcp://127.0.0.1"

_log = logging.getLogger(__name__)


class WorkerSocket:
    """A ROUTER bound in a private folder, or on the loopback where no path is short enough.

    On the loopback other users could connect too, so a worker's identity must be a secret: frames
    from any other identity are for the caller to ignore.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Binds.

        Args:
            folder: where the private folder is made; the system's temporary folder, then `/tmp`,
                if None.
        """
        self._folder: Path | None = None
        self._context = zmq.asyncio.Context(io_threads=1)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Unbounded, since what goes out is small and what comes in is taken at once and counted
        # by request.
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.endpoint = self._bind(folder)

    def send(self, identity: bytes, packed: bytes) -> None:
        """Sends a packed message at once; one to a worker that is gone is dropped."""
        sending: asyncio.Future[Any] = asyncio.ensure_future(
            self._socket.send_multipart([identity, packed])
        )
        sending.add_done_callback(_note_failure)

    async def receive(self) -> tuple[bytes, bytes]:
        """Waits for the next message; returns the sender's identity and the packed message."""
        frames = await self._socket.recv_multipart()
        return frames[0], frames[-1]

    def close(self) -> None:
        """Closes the socket and removes its folder. Idempotent."""
        self._socket.close(linger=0)
        self._context.term()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _bind(self, folder: Path | None) -> str:
        bases = [folder] if folder else [Path(tempfile.gettempdir()), _SHORT_FOLDER]
        longest = zmq.IPC_PATH_MAX_LEN
        for base in bases:
            with suppress(OSError):
                made = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=base))
                path = made / _SOCKET_NAME
                if len(str(path).encode()) <= longest:
                    self._folder = made
                    endpoint = f"ipc://{path}"
                    self._socket.bind(endpoint)
                    return endpoint
                made.rmdir()
        port = self._socket.bind_to_random_port(_TCP_LOOPBACK)
        _log.info("no short enough path for a socket; the worker is reached over the loopback")
        return f"{_TCP_LOOPBACK}:{port}"


def _note_failure(sending: asyncio.Future[Any]) -> None:
    """A worker that died is noticed and dealt with elsewhere; here its message is only dropped."""
    if not sending.cancelled() and (error := sending.exception()) is not None:
        _log.debug("a message to the worker was dropped: %s", error)
