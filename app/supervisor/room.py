"""Which models have to leave so that another can be loaded, and how many rows it gets.

Pure: budgets, footprints and what is loaded go in; a decision with its reason comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import DoesNotFitError
from app.models.capacity import Rows
from app.models.footprint import Footprint
from app.supervisor.budget import GB, Budget

#: With fewer rows than this a long text is spoken sentence by sentence: idle models leave first.
_ROWS_WORTH_AN_EVICTION = 4


@dataclass(frozen=True)
class Tenant:
    """A loaded model as the decision sees it; `used_at` in seconds of any clock."""

    name: str
    need_bytes: int
    is_idle: bool
    is_default: bool
    used_at: float


@dataclass(frozen=True)
class Placing:
    """What must be unloaded first, the rows the model gets, and why so many."""

    evict: tuple[str, ...]
    rows: int
    reason: str


def find_room(
    name: str, need: Footprint, budget: Budget, tenants: Sequence[Tenant], wanted: Rows
) -> Placing | None:
    """Decides how a model gets its memory.

    Idle models leave one after another, the longest unused first and the default last, until there
    is room for a few rows; one row is enough where no more idle models are left.

    Args:
        name: of the model.
        need: its footprint.
        budget: of the place where it will run.
        tenants: the models that are loaded in that place.
        wanted: the most rows it is to have.

    Returns:
        None where models in use hold the memory: it may fit when they are done.

    Raises:
        DoesNotFitError: it would not fit with everything else unloaded, and the budget is a
            person's word.
    """
    if budget.limit_bytes is None:
        return Placing((), wanted.most, f"{wanted.reason}; {budget.reason}")
    alone = need.rows_within(budget.limit_bytes, wanted.most)
    if alone == 0:
        if budget.is_strict:
            raise _too_large(name, need, budget)
        evict = tuple(tenant.name for tenant in _in_order(tenants))
        return Placing(evict, 1, f"it needs more than {budget.reason}, and is tried all the same")
    held = sum(tenant.need_bytes for tenant in tenants)
    enough = min(_ROWS_WORTH_AN_EVICTION, alone)
    evict_names: list[str] = []
    queue = _in_order(tenants)
    while True:
        rows = need.rows_within(budget.limit_bytes - held, wanted.most)
        if rows >= enough or not queue:
            break
        tenant = queue.pop(0)
        evict_names.append(tenant.name)
        held -= tenant.need_bytes
    if rows == 0:
        return None
    return Placing(tuple(evict_names), rows, _reason_of(rows, wanted, budget))


def _in_order(tenants: Sequence[Tenant]) -> list[Tenant]:
    idle = [tenant for tenant in tenants if tenant.is_idle]
    return sorted(idle, key=lambda tenant: (tenant.is_default, tenant.used_at))


def _reason_of(rows: int, wanted: Rows, budget: Budget) -> str:
    return wanted.reason if rows == wanted.most else f"what {budget.reason} leaves room for"


def _too_large(name: str, need: Footprint, budget: Budget) -> DoesNotFitError:
    assert budget.limit_bytes is not None
    remedy = {
        "gpu": "raise VRAM_BUDGET_GB, or run it on the CPU with FORCE_CPU=true",
        "cpu": "raise RAM_BUDGET_GB",
    }[budget.place]
    return DoesNotFitError(
        f"The model '{name}' needs about {need.total(1) / GB:.1f} GB and {budget.reason} allows "
        f"{budget.limit_bytes / GB:.1f} GB: {remedy}, or take a smaller model.",
        param="model",
    )
