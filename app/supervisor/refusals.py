"""What a request is told that can't be taken now, from the state of the engine alone."""

from __future__ import annotations

from app.errors import UnavailableError
from app.supervisor.state import EngineState


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
