"""Which voice a request means. Knows the settings' aliases; nothing of HTTP."""

from __future__ import annotations

from app.api.context import Context
from app.errors import NotFoundError
from app.messages import Ready
from app.voices.catalog import resolve_voice

DEFAULT = "default"


def voice_for(name: str | None, context: Context, ready: Ready) -> str:
    """Returns the voice that a request means: of the bundle, or an uploaded one.

    DEFAULT_VOICE counts where the model has it or it is an uploaded one, for it may belong to
    another model.

    Raises:
        NotFoundError: there is none; the message lists them.
    """
    stored = [record.name for record in context.store.list()]
    wanted = context.settings.default_voice
    try:
        return _resolve(name, context, ready, stored, wanted or ready.default_voice)
    except NotFoundError:
        if not wanted or wanted == ready.default_voice:
            raise
        return _resolve(name, context, ready, stored, ready.default_voice)


def _resolve(
    name: str | None, context: Context, ready: Ready, stored: list[str], default: str
) -> str:
    return resolve_voice(
        name or DEFAULT,
        bundle_voices=[voice.name for voice in ready.voices],
        stored=stored,
        aliases=context.settings.voice_aliases,
        default=default,
    )
