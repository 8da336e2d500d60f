"""How the engine is, as a value; and how long to wait before the next start.

Knows no processes and no sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.devices.benches import BenchedDevice
from app.errors import AudioVoiceError
from app.messages import Heartbeat, Ready

Phase = Literal["starting", "ready", "restarting", "failed", "stopping", "stopped", "unloaded"]

_LONGEST_PAUSE_S = 30.0
#: A worker that was ready for this long has shown that it can work; the next pause is short again.
_GOOD_SPELL_S = 60.0


@dataclass(frozen=True)
class EngineState:
    """A snapshot of the engine.

    `reason` says in words why the phase is what it is. `failed` is for good: a restart would not
    help, `last_error` says what would. `last_error` outlives a recovery, for the curious.
    `unloaded`: the model made room for another, or nobody used it; the next request loads it, and
    `ready` is what it said when it was there.
    `num_crashes` counts workers that ended unasked, `num_kills` those of them that had to be
    killed because they gave no sign of life, `restarts` the starts that followed. Times are in
    seconds: `uptime_s` since the worker was ready, `load_s` from its start until it was ready the
    last time, `retry_after_s` until another try makes sense.
    `benched` are devices that are not used for now, with the reasons.
    """

    phase: Phase
    reason: str
    ready: Ready | None
    heartbeat: Heartbeat | None
    restarts: int
    num_crashes: int
    num_kills: int
    num_in_flight: int
    last_error: AudioVoiceError | None
    pid: int | None
    uptime_s: float
    load_s: float | None
    retry_after_s: float
    benched: tuple[BenchedDevice, ...] = ()


def absent_state(
    phase: Phase, reason: str, *, ready: Ready | None = None, error: AudioVoiceError | None = None
) -> EngineState:
    """Returns the state of a model that has no worker."""
    return EngineState(
        phase=phase,
        reason=reason,
        ready=ready,
        heartbeat=None,
        restarts=0,
        num_crashes=0,
        num_kills=0,
        num_in_flight=0,
        last_error=error,
        pid=None,
        uptime_s=0.0,
        load_s=None,
        retry_after_s=1.0,
    )


class Backoff:
    """Pauses between restarts: `first_s`, doubled each time up to 30 s."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._next_s = first_s

    def next_pause_s(self, ready_for_s: float) -> float:
        """Returns the pause before the next start.

        Args:
            ready_for_s: how long the worker that ended had been ready; a minute clears the record.
        """
        if ready_for_s >= _GOOD_SPELL_S:
            self._next_s = self._first_s
        pause_s = self._next_s
        self._next_s = min(_LONGEST_PAUSE_S, pause_s * 2)
        return pause_s
