"""Which voice a name means: of the model, uploaded, or an alias of one. Knows names alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.errors import NotFoundError
from app.voices.names import DEFAULT, fold_name, voice_id_of

_NUM_LISTED = 20


def resolve_voice(
    name: str | None,
    *,
    bundle_voices: Iterable[str],
    stored: Iterable[str],
    aliases: Mapping[str, str],
    default: str,
) -> str:
    """Returns the name of the voice that is meant, as its owner spells it.

    A voice of the model comes before an uploaded one of the same name, and both come before an
    alias, so that an upload called "nova" is heard where "nova" is asked for. Case does not matter.

    Args:
        name: what was asked for: a name, an id of an uploaded voice, an alias, or "default"; None
            and "" are "default".
        bundle_voices: names of the loaded model's voices.
        stored: names of the uploaded voices.
        aliases: other names for voices; a value may be an alias again, or "default".
        default: the voice that "default" means; "" takes the model's first, else the first stored.

    Raises:
        NotFoundError: nothing is called that; the message lists the voices.
    """
    of_model, uploaded = list(bundle_voices), list(stored)
    real = {fold_name(voice): voice for voice in (*uploaded, *of_model)}
    real |= {voice_id_of(voice): voice for voice in uploaded}
    targets = {fold_name(alias): target for alias, target in aliases.items()}
    targets[DEFAULT] = default or next(iter((*of_model, *uploaded)), "")
    wanted = fold_name(name or DEFAULT) or DEFAULT
    passed: set[str] = set()
    while wanted not in passed:
        if wanted in real:
            return real[wanted]
        passed.add(wanted)
        wanted = fold_name(targets.get(wanted, wanted))
    raise _unknown(name or DEFAULT, [*of_model, *uploaded])


def _unknown(name: str, voices: list[str]) -> NotFoundError:
    listed = ", ".join(voices[:_NUM_LISTED]) or "none yet; upload one"
    more = f" and {len(voices) - _NUM_LISTED} more" if len(voices) > _NUM_LISTED else ""
    return NotFoundError(
        f"There is no voice {name[:100]!r} here; there are: {listed}{more}.",
        param="voice",
        code="voice_not_found",
    )
