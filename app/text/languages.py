"""The languages that XTTS speaks: codes, names and how long a segment may be.

Knows nothing of a particular model: which of these a model has is the tokenizer's to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from app.errors import InputError


@dataclass(frozen=True)
class Language:
    """One language of XTTS."""

    #: the code in the model's `[xx]` token
    code: str
    #: its English name
    name: str
    #: characters a segment may have before speech gets cut or odd
    #: (source: coqui-tts 0.28, TTS/tts/layers/xtts/tokenizer.py, `char_limits`)
    char_limit: int


LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {
        language.code: language
        for language in (
            Language("en", "English", 250),
            Language("es", "Spanish", 239),
            Language("fr", "French", 273),
            Language("de", "German", 253),
            Language("it", "Italian", 213),
            Language("pt", "Portuguese", 203),
            Language("pl", "Polish", 224),
            Language("tr", "Turkish", 226),
            Language("ru", "Russian", 182),
            Language("nl", "Dutch", 251),
            Language("cs", "Czech", 186),
            Language("ar", "Arabic", 166),
            Language("zh-cn", "Chinese", 82),
            Language("hu", "Hungarian", 224),
            Language("ko", "Korean", 95),
            Language("ja", "Japanese", 71),
            Language("hi", "Hindi", 150),
        )
    }
)

#: Codes that people use for a language that XTTS calls otherwise (ISO 639-1/-3, countries).
_ALIASES = {
    "zh": "zh-cn",
    "cmn": "zh-cn",
    "jp": "ja",
    "kr": "ko",
    "cz": "cs",
    "br": "pt",
    "eng": "en",
    "spa": "es",
    "fra": "fr",
    "fre": "fr",
    "deu": "de",
    "ger": "de",
    "ita": "it",
    "por": "pt",
    "pol": "pl",
    "tur": "tr",
    "rus": "ru",
    "nld": "nl",
    "dut": "nl",
    "ces": "cs",
    "cze": "cs",
    "ara": "ar",
    "zho": "zh-cn",
    "chi": "zh-cn",
    "hun": "hu",
    "kor": "ko",
    "jpn": "ja",
    "hin": "hi",
}


def resolve_language(code: str, supported: Sequence[str]) -> str:
    """Finds the model's code for what the caller wrote: "pt-BR" is "pt", "zh" is "zh-cn".

    Args:
        code: a language code or English name, in any case, with or without a region.
        supported: the codes the model has.

    Raises:
        InputError: on `language`, when the model does not speak it; lists the codes it has.
    """
    wanted = code.strip().lower().replace("_", "-")
    base = wanted.split("-")[0]
    by_name = {LANGUAGES[known].name.lower(): known for known in LANGUAGES}
    candidates = (wanted, _ALIASES.get(wanted), by_name.get(wanted), base, _ALIASES.get(base))
    for candidate in candidates:
        if candidate is not None and candidate in supported:
            return candidate
    raise InputError(
        f"language {code[:40]!r} is not spoken by this model; use one of: "
        f"{', '.join(supported)}, or auto.",
        param="language",
        code="unsupported_language",
    )
