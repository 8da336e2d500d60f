"""The worker's I/O thread: the socket to the api process, signs of life, and when to leave.

The socket belongs to the one thread that calls `WorkerLink.run`; others hand over what they have
to say and wake it. So heartbeats leave and cancels arrive while a long step runs. Knows nothing of
synthesis.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
import zmq

from app.errors import InputError
from app.messages import (
    Bye,
    Failed,
    FromWorker,
    Heartbeat,
    Loading,
    Stop,
    ToWorker,
    decode_to_worker,
    encode,
)

#: How often, at least, the parent is looked for where the kernel can't tell of its death.
_PARENT_CHECK_S = 1.0
#: The engine may overrun a stop's grace by this, for the step that was running.
_STOP_SLACK_S = 1.0
#: At the end, what was said last gets this long to leave.
_LINGER_MS = 1000

EXIT_OK = 0
EXIT_FAILED = 1

_log = logging.getLogger(__name__)


class WorkerLink:
    """A DEALER socket with the thread that owns it.

    `send`, `engine_listens`, `finish` and `stop` may be called from any thread, `stop` from a
    signal handler too; `run` and `close` only from the thread that made it. `inbox` is what the
    api process asked for, in order.
    """

    def __init__(self, endpoint: str, identity: str, *, heartbeat_s: float, parent: int) -> None:
        """Connects; nothing is said yet.

        Args:
            endpoint: ZeroMQ address that the api process has bound.
            identity: the name this worker is known by there.
            heartbeat_s: seconds between signs of life.
            parent: pid of the api process; when it is gone, so are we.
        """
        self.inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._heartbeat_s = heartbeat_s
        self._parent = parent
        self._exit_code: int | None = None
        self._leave_at: float | None = None
        self._engine_listens = False
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._context = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, identity.encode())
        # A stalled api process must not block this thread; what can pile up here is no more than
        # the audio of the requests in flight.
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.connect(endpoint)

    def send(self, message: FromWorker) -> None:
        """Queues a message for the api process."""
        self._outbox.put(encode(message))
        self._wake()

    def engine_listens(self) -> None:
        """Says that the engine reads its inbox from now on; a stop before that needs no waiting."""
        self._engine_listens = True

    def finish(self, code: int) -> None:
        """Ends `run` with this exit code once all that was queued is on its way."""
        self._exit_code = code
        self._wake()

    def stop(self, grace_s: float) -> None:
        """Asks the engine to stop, as a `Stop` from the api process does."""
        self._request_stop(Stop(grace_s=grace_s))
        self._wake()

    def run(self, pulse: Callable[[], Loading | Heartbeat]) -> int:
        """Moves messages both ways until the engine is finished; returns the exit code.

        Args:
            pulse: makes the sign of life to send; called every `heartbeat_s`.
        """
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_in, zmq.POLLIN)
        next_pulse = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_pulse:
                self._socket.send(encode(pulse()))
                next_pulse = now + self._heartbeat_s
            self._receive_all()
            # Read before the outbox is emptied: what was queued before `finish` still leaves.
            code = self._code_to_leave_with()
            self._send_all()
            if code is not None:
                self._socket.send(encode(Bye()))
                return code
            wait_s = min(next_pulse - time.monotonic(), _PARENT_CHECK_S)
            poller.poll(max(0, round(wait_s * 1000)))

    def close(self) -> None:
        """Closes everything; what was said last still gets a second to leave."""
        self._socket.close()
        self._context.term()
        self._wake_in.close()
        self._wake_out.close()

    def _code_to_leave_with(self) -> int | None:
        if os.getppid() != self._parent:
            _log.warning("the api process is gone; so is its worker")
            return EXIT_FAILED
        if self._exit_code is not None:
            return self._exit_code
        if self._leave_at is None:
            return None
        if not self._engine_listens:
            return EXIT_OK
        if time.monotonic() >= self._leave_at:
            _log.warning("the engine did not stop in time and is left as it is")
            return EXIT_FAILED
        return None

    def _receive_all(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_in.recv(4096):
                pass
        with suppress(zmq.Again):
            while True:
                self._take(self._socket.recv(zmq.NOBLOCK))

    def _take(self, packed: bytes) -> None:
        """Passes a message on; one that makes no sense is answered, if it has an id, and dropped.

        The others in flight must not pay for it.
        """
        try:
            message = decode_to_worker(packed)
        except msgspec.ValidationError as error:
            _log.error("a message makes no sense: %s", error)
            refusal = InputError(f"The engine can't read the request: {error}.")
            request_id = str(msgspec.msgpack.decode(packed).get("id", ""))
            if request_id:
                self._socket.send(encode(Failed(id=request_id, error=refusal.to_dict())))
            return
        if isinstance(message, Stop):
            self._request_stop(message)
        else:
            self.inbox.put(message)

    def _request_stop(self, message: Stop) -> None:
        leave_at = time.monotonic() + message.grace_s + _STOP_SLACK_S
        self._leave_at = min(leave_at, self._leave_at or leave_at)
        self.inbox.put(message)

    def _send_all(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._socket.send(self._outbox.get_nowait())

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full: it is awake already
            self._wake_out.send(b"\0")
