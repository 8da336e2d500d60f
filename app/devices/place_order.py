"""What a worker is told about where to run, beyond the settings. Plain data, no torch."""

from __future__ import annotations

import msgspec


class RowsOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most segments side by side that memory was counted for.

    `place` is `gpu` or `cpu`, where it was counted; a worker that runs elsewhere chooses anew.
    """

    place: str
    rows: int
    reason: str


class PlaceOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wins over DEVICE and PRECISION.

    `device` is `cpu` where the device of the settings must not be used for now, and empty where
    the settings decide; `reason` says why. `reprobe` asks for a new probe of the device that is
    chosen, the CPU included, because the last worker's end smelt of the stack. `rows` is None
    where nobody counted.
    """

    device: str = ""
    reason: str = ""
    reprobe: bool = False
    rows: RowsOrder | None = None
