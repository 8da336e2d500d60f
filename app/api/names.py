"""Which model and voice a request means, and whether the engine can serve it now.

Knows the engine's state and the settings' aliases; nothing of HTTP.
"""

from __future__ import annotations

from pathlib import Path

from app.api.context import Context
from app.api.engine import Engine
from app.api.errors import MODEL_FAILED
from app.errors import NotFoundError, UnavailableError
from app.messages import Ready
from app.settings import Settings
from app.voices.catalog import resolve_voice

DEFAULT = "default"


def ready_or_raise(engine: Engine) -> Ready:
    """Returns what the worker said when it became ready.

    Raises:
        UnavailableError: it is not ready; the reason, and when to ask again.
    """
    state = engine.state
    if state.ready is not None:
        return state.ready
    if state.phase == "failed":
        raise UnavailableError(
            f"The model can't be used: {state.reason or 'its log says why'}",
            code=MODEL_FAILED,
        )
    raise UnavailableError(
        f"The model is not ready ({state.phase}): {state.reason or 'no reason is known'}; "
        "try again after the seconds in Retry-After.",
        code="not_ready",
        retry_after_s=state.retry_after_s,
    )


def loaded_model(settings: Settings, ready: Ready | None) -> str:
    """Returns the name of the model that speaks, also while it is still loading."""
    return ready.model if ready else Path(settings.default_model).name


def model_names(settings: Settings, ready: Ready | None) -> dict[str, str | None]:
    """Returns each name that `model` may take, with the name it stands for if it is an alias."""
    loaded = loaded_model(settings, ready)
    own = {DEFAULT, settings.default_model, loaded}
    names: dict[str, str | None] = {loaded: None}
    for alias, target in settings.model_aliases.items():
        if target in own and alias not in names:
            names[alias] = loaded
    return names


def check_model(name: str | None, settings: Settings, ready: Ready | None) -> None:
    """Passes if `name` means the loaded model; None does.

    Raises:
        NotFoundError: it means another.
    """
    names = model_names(settings, ready)
    if name is None or name in names or name in (DEFAULT, settings.default_model):
        return
    raise NotFoundError(
        f"There is no model '{name[:100]}' here; there are: {', '.join(names)}.",
        param="model",
        code="model_not_found",
    )


def voice_for(name: str | None, context: Context, ready: Ready) -> str:
    """Returns the voice that a request means: of the bundle, or an uploaded one.

    Raises:
        NotFoundError: there is none; the message lists them.
    """
    return resolve_voice(
        name or DEFAULT,
        bundle_voices=[voice.name for voice in ready.voices],
        stored=[record.name for record in context.store.list()],
        aliases=context.settings.voice_aliases,
        default=context.settings.default_voice or ready.default_voice,
    )
