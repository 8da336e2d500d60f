"""What a voice may be called, and when two names are the same. Knows no folder and no model."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from app.errors import InputError

MAX_NAME_CHARS = 64
#: Means "the voice of the settings or of the model" wherever a voice can be named.
DEFAULT = "default"

_PUNCTUATION = frozenset(" ._-")
_ID_PREFIX = "voice_"
_ID_DIGITS = 24
_ID = re.compile(rf"{_ID_PREFIX}[0-9a-f]{{{_ID_DIGITS}}}")
_RULE = (
    f"use 1 to {MAX_NAME_CHARS} letters, digits, spaces or any of . _ - with a letter or digit"
    " first and no space or dot last"
)


def fold_name(name: str) -> str:
    """Returns what is equal for two names that are the same: composed (NFC), case taken away."""
    composed = unicodedata.normalize("NFC", name.strip())
    return unicodedata.normalize("NFC", composed.casefold())


def is_voice_id(name: str) -> bool:
    """Says whether this is the form of an id, `voice_` and 24 hex digits."""
    return _ID.fullmatch(name) is not None


def voice_id_of(name: str) -> str:
    """Returns the id of the voice of that name; of an id, the id itself.

    It is made from the folded name alone, so the same name has the same id in every process, and
    two voices of one name can't both have a folder of that id.
    """
    if is_voice_id(name):
        return name
    digest = hashlib.sha256(fold_name(name).encode("utf-8", "surrogatepass")).hexdigest()
    return _ID_PREFIX + digest[:_ID_DIGITS]


def check_voice_name(name: str) -> str:
    """Returns the name in composed form (NFC), without spaces around it.

    Raises:
        InputError: it can't be the name of a voice; the message says what can.
    """
    composed = unicodedata.normalize("NFC", name).strip(" ")
    if not 1 <= len(composed) <= MAX_NAME_CHARS:
        raise _refused(f"has {len(composed)} characters")
    strange = next((char for char in composed if not _is_allowed(char)), None)
    if strange is not None:
        raise _refused(f"holds {strange!a}")
    if composed[0] in _PUNCTUATION or composed[-1] in " .":
        raise _refused("starts or ends with a dot, space or dash")
    if fold_name(composed) == DEFAULT or composed.casefold().startswith(_ID_PREFIX):
        raise _refused("is reserved")
    return composed


def _is_allowed(char: str) -> bool:
    # Marks are parts of letters in many scripts (Devanagari's vowel signs, Arabic's points).
    return char in _PUNCTUATION or unicodedata.category(char) in _LETTERS_MARKS_DIGITS


_LETTERS_MARKS_DIGITS = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd"})


def _refused(what: str) -> InputError:
    return InputError(f"The voice's name {what}: {_RULE}.", param="name", code="invalid_voice_name")
