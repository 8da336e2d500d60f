"""Ordinals in digits: "1st", "2ª", "3e", "5.", "10-й"."""

from __future__ import annotations

import re
from collections.abc import Callable

from app.text.numbers import cardinal, ordinal

_MAX_RANK = 9999


def expand_ordinals(text: str, language: str) -> str:
    """Replaces a rank written in digits with words."""
    for pattern, say in _RULES.get(language, ()):
        text = pattern.sub(say, text)
    return text


def _rank(match: re.Match[str]) -> int:
    return min(int(match[1]), _MAX_RANK)


def _say(language: str, *, feminine: bool = False) -> Callable[[re.Match[str]], str]:
    return lambda match: ordinal(_rank(match), language, feminine=feminine)


#: Words after "20°" that make it a temperature or a place, not a rank.
_DEGREES_OF = (
    "(?:abaixo|acima|cent|cels|fahr|bajo|sobre|sotto|sopra|nor|sul|sur|sud|este|leste|oeste|ovest|"
    "latitud|longitud|negativ|positiv)"
)


def _iberian(language: str) -> tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]:
    return (
        (
            re.compile(
                rf"\b(\d{{1,4}})\.?(?:º|°(?=\s?[a-zà-ý]{{4}})(?!\s?{_DEGREES_OF}))(?!\s?[CF]\b)"
            ),
            _say(language),
        ),
        (re.compile(r"\b(\d{1,4})\.?ª"), _say(language, feminine=True)),
    )


def _say_spanish_short(match: re.Match[str]) -> str:
    return re.sub(r"(primer|tercer)o\Z", r"\1", ordinal(_rank(match), "es"))


def _say_french_second(match: re.Match[str]) -> str:
    return "seconde" if match[0].endswith("e") else "second"


def _say_german(match: re.Match[str]) -> str:
    article = match[2].lower()
    ending = "" if article in {"der", "die", "das", "eine"} else "n"
    return f"{match[2]} {ordinal(min(int(match[3]), _MAX_RANK), 'de')}{ending}"


def _say_german_alone(match: re.Match[str]) -> str:
    return ordinal(_rank(match), "de")


_RUSSIAN_ENDINGS = {
    "й": ("n", "m"), "ый": ("n", "m"), "ой": ("n", "m"), "я": ("n", "f"), "ая": ("n", "f"),
    "е": ("n", "n"), "ое": ("n", "n"), "го": ("g", "m"), "ого": ("g", "m"), "му": ("d", "m"),
    "ому": ("d", "m"), "м": ("p", "m"), "ом": ("p", "m"), "ую": ("a", "f"), "ю": ("a", "f"),
    "х": ("g", "p"), "ых": ("g", "p"),
}  # fmt: skip


def _say_russian(match: re.Match[str]) -> str:
    from num2words import num2words

    case, gender = _RUSSIAN_ENDINGS[match[2]]
    return str(num2words(_rank(match), lang="ru", to="ordinal", case=case, gender=gender))


def _say_hungarian_day(match: re.Match[str]) -> str:
    rank = "elsej" if int(match[1]) == 1 else ordinal(_rank(match), "hu")
    return rank + match[2].removeprefix("j")


_KOREAN_NATIVE = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_KOREAN_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")


def _say_korean_count(match: re.Match[str]) -> str:
    number = int(match[1])
    if not 0 < number < 100:
        return f"{cardinal(number, 'ko')} {match[2]}"
    tens, ones = divmod(number, 10)
    native = "스무" if number == 20 else _KOREAN_TENS[tens] + _KOREAN_NATIVE[ones]
    return f"{native} {match[2]}"


_DOTTED_LOWER = r"(?<![\d.,:])(\d{1,3})\.(?=\s+[^\W\d_A-ZÀ-ÝŐŰŁŚŻŹŘŠČŽĚŮİŞĞ])"

_RULES: dict[str, tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = {
    "en": ((re.compile(r"\b(\d{1,4})(?:st|nd|rd|th)\b", re.IGNORECASE), _say("en")),),
    "pt": _iberian("pt"),
    "es": (
        (re.compile(r"\b(\d{1,2})\.?(?:er|ᵉʳ)\b"), _say_spanish_short),
        *_iberian("es"),
    ),
    "it": _iberian("it"),
    "fr": (
        (re.compile(r"\b(1)er\b"), _say("fr")),
        (re.compile(r"\b(1)(?:re|ère)\b"), _say("fr", feminine=True)),
        (re.compile(r"\b(2)nde?\b"), _say_french_second),
        (re.compile(r"\b(\d{1,4})(?:e|è|ème|eme|ième)\b"), _say("fr")),
    ),
    "de": (
        (
            re.compile(
                r"(?<!\w)((am|im|vom|zum|zur|beim|dem|den|des|der|die|das|ein|eine|einen|einem|jeden|"
                r"jedem|seinen|ihren|meinen) (\d{1,3}))\.(?=\s+\w)",
                re.IGNORECASE,
            ),
            _say_german,
        ),
        (re.compile(_DOTTED_LOWER), _say_german_alone),
    ),
    "nl": ((re.compile(r"\b(\d{1,4})(?:ste|de|e)\b"), _say("nl")),),
    "pl": ((re.compile(_DOTTED_LOWER), _say("pl")),),
    "cs": ((re.compile(_DOTTED_LOWER), _say("cs")),),
    "tr": (
        (re.compile(_DOTTED_LOWER), _say("tr")),
        (re.compile(r"\b(\d{1,4})'?(?:[iıuü]?nc[iıuü])\b"), _say("tr")),
    ),
    "hu": (
        (re.compile(r"\b(\d{1,2})-(j?[éeáa]n?)\b"), _say_hungarian_day),
        (re.compile(_DOTTED_LOWER), _say("hu")),
    ),
    "ru": (
        (
            re.compile(
                r"\b(\d{1,4})-("
                + "|".join(sorted(_RUSSIAN_ENDINGS, key=len, reverse=True))
                + r")\b"
            ),
            _say_russian,
        ),
    ),
    "ko": (
        (re.compile(r"(?<!\d)(0?6|10)(?=월)"), lambda m: "시" if m[1] == "10" else "유"),
        (re.compile(r"(?<!\d)(\d{1,4})\s?번째"), _say("ko")),
        (re.compile(r"(?<![\d.,])(\d{1,2})\s?(시간|살|명|개|마리|잔|병|권|달)"), _say_korean_count),
    ),
    "ja": (),
    "zh-cn": (),
}
