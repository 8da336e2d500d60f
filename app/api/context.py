"""What every route needs, made once by the app factory and carried by the app.

Knows what the parts are, not what they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.api.engine import Engine
from app.api.slots import Slots
from app.metrics import Metrics
from app.models.registry import ModelRegistry
from app.settings import Settings
from app.supervisor.handover import Handover
from app.voices.store import VoiceStore


@dataclass(frozen=True)
class Context:
    """The parts of one service."""

    settings: Settings
    engine: Engine
    registry: ModelRegistry
    handover: Handover
    store: VoiceStore
    metrics: Metrics
    speech_slots: Slots
    upload_slots: Slots


def _context_of(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


ContextDep = Annotated[Context, Depends(_context_of)]
