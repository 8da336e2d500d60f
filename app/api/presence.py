"""Stops work as soon as the client it is for has gone.

A server that only notices a lost client when it next writes goes on computing what nobody will
hear; here the connection is watched all the while. Knows ASGI's `receive`, nothing of speech.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from starlette.types import Receive

from app.errors import RequestCancelledError

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def while_present(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Runs `work` and cancels it when the client disconnects.

    The request's body must have been read. When this returns or raises, `work` has ended,
    its `finally` blocks included.

    Raises:
        RequestCancelledError: the client left first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        leaving.result()
        raise RequestCancelledError("The client left before its answer was ready.")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working, leaving})
        if not working.cancelled():
            working.exception()  # seen: a fault while it was being cancelled concerns nobody


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Runs blocking work in a thread; when cancelled, waits for the thread before it gives way.

    So what the thread works on is never touched by two at a time.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
