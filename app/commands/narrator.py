"""Words on stderr while something long goes on, so that nobody sits before a silent screen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from app.commands.terminal import note
from app.supervisor.client import EngineClient

_SILENT_S = 5.0
_LOOK_S = 0.1

ResultT = TypeVar("ResultT")


async def narrate(engine: EngineClient, silent_s: float = _SILENT_S) -> None:
    """Tells for ever what the engine is doing, each time that changes.

    Args:
        engine: its state says it.
        silent_s: the first seconds pass in silence.
    """
    told = ""
    await asyncio.sleep(silent_s)
    while True:
        if engine.state.reason != told:
            told = engine.state.reason
            note(f"... {told}")
        await asyncio.sleep(_LOOK_S)


async def wait_telling(work: Awaitable[ResultT], what: str) -> ResultT:
    """Waits for some work and tells every few seconds that it goes on."""
    note(f"... {what}")
    task = asyncio.ensure_future(work)
    passed_s = 0.0
    while not (await asyncio.wait({task}, timeout=_SILENT_S))[0]:
        passed_s += _SILENT_S
        note(f"... {what}, for {passed_s:.0f} s so far")
    return task.result()
