"""The lines a probe child writes as it goes, so that what kills it is known by name.

Each line is one JSON object, written before the thing it announces is begun. Knows no torch.
"""

from __future__ import annotations

import msgspec

from app.devices.report import Backend, Stack


class StageBegun(msgspec.Struct, frozen=True, tag="stage"):
    """A stage begins; it lasts until its `StageDone`, or until the child is gone."""

    stage: str


class OperationBegun(msgspec.Struct, frozen=True, tag="operation"):
    """An operation begins; a child that falls silent or dies now did so in it."""

    operation: str
    dtype: str
    batch: int | None = None
    length_s: float | None = None
    call: int | None = None


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """The operation begun last came back. `difference` is None where the result is not finite."""

    difference: float | None
    limit: float
    all_zero: bool = False

    @property
    def right(self) -> bool:
        """True when the numbers are finite, not all zero, and near enough."""
        return self.difference is not None and not self.all_zero and self.difference <= self.limit


class StageDone(msgspec.Struct, frozen=True, tag="done"):
    """The stage came to its end; what it measured is another matter."""

    stage: str
    duration_s: float


class DeviceChosen(msgspec.Struct, frozen=True, tag="device"):
    """Where the operations run from here on."""

    device: str
    backend: Backend


class DeviceAbsent(msgspec.Struct, frozen=True, tag="absent"):
    """The GPU wanted is not to be had; `verdict` is no_gpu, gpu_lost or gpu_dead."""

    verdict: str
    backend: Backend
    detail: str


class StackSeen(msgspec.Struct, frozen=True, tag="stack"):
    """What is installed and loaded so far; a later one replaces an earlier one."""

    stack: Stack


class MemorySeen(msgspec.Struct, frozen=True, tag="memory"):
    """Free and total memory of the device; None where it can't be read."""

    free_bytes: int | None
    total_bytes: int | None
    enough: bool


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The operation begun last raised; the child ends after this."""

    text: str
    free_bytes: int | None


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The child did all it was asked for."""


Event = (
    StageBegun
    | OperationBegun
    | Measured
    | StageDone
    | DeviceChosen
    | DeviceAbsent
    | StackSeen
    | MemorySeen
    | Failed
    | Finished
)

encode_event = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Event).decode


def decode_event(line: bytes) -> Event | None:
    """Reads one line; None for a line that is no event (a library talking)."""
    try:
        event: Event = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return event
