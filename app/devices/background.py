"""Blocking work beside an event loop, in a thread that no shutdown waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def run_in_daemon(work: Callable[[], ResultT], name: str) -> ResultT:
    """Runs `work` in a daemon thread and returns what it returns, or raises what it raises.

    A probe may take minutes on a broken device. The loop's own threads would hold the program's
    end for as long; this one, with the child it waits for, dies with the process.

    Args:
        work: called once.
        name: of the thread.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[ResultT] = loop.create_future()

    def settle(set_outcome: Callable[[], None]) -> None:
        if not outcome.done():
            set_outcome()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - the thread's boundary; raised by the caller
            fault = error
            _tell(loop, lambda: settle(lambda: outcome.set_exception(fault)))
        else:
            _tell(loop, lambda: settle(lambda: outcome.set_result(result)))

    threading.Thread(target=run, name=name, daemon=True).start()
    return await outcome


def _tell(loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
