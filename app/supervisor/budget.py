"""How much memory models may take together, by place, and where that limit comes from.

Reads settings, remembered probes and the system's own words. Starts nothing, needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.devices.hardware import amd_gpus, memory_limit, nvidia_gpus
from app.devices.probe import cached_report
from app.models.footprint import Place
from app.settings import Settings

GB = 10**9
#: By preset: the card's memory less what driver, screen and other programs hold of it.
PRESET_BYTES = {"vram-8gb": 7 * GB, "vram-12gb": 11 * GB, "vram-24gb": 22 * GB}
#: Share of the machine's or the card's memory that is taken where no setting says how much.
_SHARE = 0.9


@dataclass(frozen=True)
class Budget:
    """Memory for all models of one place together.

    `limit_bytes` is None where nothing is known to hold to. `is_strict` where a person set it: then
    a model that needs more is refused; otherwise it is tried, for estimates err and the worker
    itself falls back to fewer rows and to the CPU.
    """

    place: Place
    limit_bytes: int | None
    reason: str
    is_strict: bool = False


def budget_of(settings: Settings, place: Place, card_bytes: int | None = None) -> Budget:
    """Returns the budget of a place.

    Args:
        settings: VRAM_BUDGET_GB, MEMORY_PRESET, RAM_BUDGET_GB.
        place: `gpu` or `cpu`.
        card_bytes: memory of the GPU as a worker saw it; None takes what a probe remembers.
    """
    if place == "gpu":
        if settings.vram_budget_gb:
            limit = round(settings.vram_budget_gb * GB)
            return Budget(place, limit, f"VRAM_BUDGET_GB={settings.vram_budget_gb:g}", True)
        if settings.memory_preset != "none":
            limit = PRESET_BYTES[settings.memory_preset]
            return Budget(place, limit, f"MEMORY_PRESET={settings.memory_preset}", True)
        return _share_of(place, card_bytes or _card_bytes(settings), "the card's memory")
    if settings.ram_budget_gb:
        limit = round(settings.ram_budget_gb * GB)
        return Budget(place, limit, f"RAM_BUDGET_GB={settings.ram_budget_gb:g}", True)
    return _share_of(place, memory_limit(), "the memory this process may use")


def expected_place(settings: Settings, benched: tuple[str, ...] = ()) -> Place:
    """Returns where a worker will probably run, before it has chosen.

    Args:
        settings: DEVICE and FORCE_CPU.
        benched: devices that are not used for now.
    """
    if settings.force_cpu or settings.device == "cpu" or benched:
        return "cpu"
    if settings.device != "auto":
        return "gpu"
    if not (nvidia_gpus() or amd_gpus()):
        return "cpu"
    report = cached_report(settings, settings.device)
    return "gpu" if report is None or report.usable else "cpu"


def _share_of(place: Place, total_bytes: int | None, what: str) -> Budget:
    if total_bytes is None:
        return Budget(place, None, f"{what} is not known")
    return Budget(place, round(_SHARE * total_bytes), f"{_SHARE:.0%} of {what}")


def _card_bytes(settings: Settings) -> int | None:
    report = cached_report(settings, settings.device)
    return report.total_bytes if report and report.on_gpu else None
