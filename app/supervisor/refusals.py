"""What a request is told that can't be taken now, from the state of the engine alone."""

from __future__ import annotations

from typing import Protocol

from app.errors import UnavailableError
from app.messages import Ready
from app.supervisor.state import EngineState

#: Code of a 503 that lasts until somebody mends the model.
MODEL_FAILED = "model_failed"


class Readable(Protocol):
    """What must be known of a worker to tell whether it can be asked."""

    @property
    def phase(self) -> str:
        """How it is."""

    @property
    def reason(self) -> str:
        """Why it is so."""

    @property
    def ready(self) -> Ready | None:
        """What it said when it was ready."""

    @property
    def retry_after_s(self) -> float:
        """Seconds until another try makes sense."""


def ready_or_raise(state: Readable) -> Ready:
    """Returns what the worker said when it became ready.

    Raises:
        UnavailableError: it is not ready; the reason, and when to ask again.
    """
    if state.ready is not None:
        return state.ready
    if state.phase == "failed":
        raise UnavailableError(
            f"The model can't be used: {state.reason or 'its log says why'}", code=MODEL_FAILED
        )
    raise UnavailableError(
        f"The model is not ready ({state.phase}): {state.reason or 'no reason is known'}; "
        "try again after the seconds in Retry-After.",
        code="not_ready",
        retry_after_s=state.retry_after_s,
    )


def refusal_of(state: EngineState) -> UnavailableError | None:
    """Returns why no request can be taken now; None when one can."""
    if state.phase == "ready":
        return None
    if state.phase in ("stopping", "stopped"):
        return stopping()
    if state.phase == "failed":
        cause = state.last_error
        return UnavailableError(
            cause.message if cause else state.reason, code=cause.code if cause else None
        )
    return UnavailableError(
        f"The engine is {state.phase}: {state.reason.rstrip('.')}. Try again shortly.",
        code="engine_starting",
        retry_after_s=state.retry_after_s,
    )


def stopping() -> UnavailableError:
    """Returns the error of every request that a stop has caught."""
    return UnavailableError("The service is stopping.", code="stopping")
