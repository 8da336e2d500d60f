"""Dates and clock times in words.

Knows the numeric forms (25/12/2024, 2024-12-25), the written ones (25 de dezembro de 2024, December
25, 2024) and clock times (14:30, 14h30, 2:30 pm). A number that is no day or hour is left alone.
"""

from __future__ import annotations

import re
from functools import lru_cache

from app.text.numbers import cardinal, ordinal, read_digits

#: CLDR's name of each XTTS language, where it is not the code itself.
CLDR_LOCALES = {"pt": "pt_BR", "zh-cn": "zh"}

_ISO_RE = re.compile(r"(?<![\d/-])(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?![\d/-])")
_DAY_FIRST_RE = re.compile(r"(?<![\d/.-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?![\d/-]|\.\d)")
#: "dia 25/12": day and month alone are only a date after one of these words.
_DAY_MONTH_RE = re.compile(
    r"(?i)\b(dia|día|em|até|desde|le|du|am|vom|bis|il|del|on|op)\s+(\d{1,2})[/.](\d{1,2})\b\.?(?![\d/])"
)
_EAST_ASIAN_YEAR_RE = re.compile(r"(\d{4})(?=\s?年)")
_DECADE_RE = re.compile(r"\b(1[1-9]|20)(\d)0'?s\b")
_ENGLISH_YEAR_RE = re.compile(
    r"(?i)\b(in|since|from|until|till|by|of|before|after|year|around|circa|during|to|and|early|late|"
    r"mid|spring|summer|autumn|fall|winter)\s+(1[1-9]\d\d|20[1-9]\d)\b(?![.,:]?\d|%|\s?[€$£])"
)
_GERMAN_YEAR_RE = re.compile(
    r"(?i)\b(im jahre?|des jahres|seit|bis|von|anno|ende|anfang|mitte|wurde|sommer|herbst|winter|"
    r"frühling|frühjahr)\s+(1[1-9]\d\d)\b(?![.,]?\d|\s?[%€$])"
)
#: day, month, year -> the whole, by language
_PATTERNS = {
    "en": "{month} {day}, {year}",
    "pt": "{day} de {month} de {year}",
    "es": "{day} de {month} de {year}",
    "zh-cn": "{year}年{month}{day}日",
    "ja": "{year}年{month}{day}日",
    "ko": "{year}년 {month} {day}일",
    "hu": "{year} {month} {day}",
}
_PATTERNS_WITHOUT_YEAR = {
    "en": "{month} {day}",
    "pt": "{day} de {month}",
    "es": "{day} de {month}",
    "zh-cn": "{month}{day}日",
    "ja": "{month}{day}日",
    "ko": "{month} {day}일",
    "hu": "{month} {day}",
}
#: The first of the month has a name of its own.
_FIRST = {"pt": "primeiro", "es": "primero", "fr": "premier", "it": "primo"}
_GERMAN_DATIVE_RE = re.compile(r"(?i)\b(?:am|vom|zum|dem|den|bis|seit|ab)\s+\Z")


def expand_dates(text: str, language: str) -> str:
    """Replaces dates, written or in digits, with words."""

    def replace_iso(match: re.Match[str]) -> str:
        year, month, day = (int(group) for group in match.groups())
        return _say_or_keep(match, day, month, str(year), language)

    def replace_day_first(match: re.Match[str]) -> str:
        first, second, year = int(match[1]), int(match[3]), match[4]
        if len(year) == 2:
            year = ("20" if int(year) < 70 else "19") + year
        month_first = language == "en" and match[2] == "/"
        day, month = (second, first) if month_first and first <= 12 else (first, second)
        if month > 12:
            day, month = month, day
        return _say_or_keep(match, day, month, year, language)

    def replace_day_month(match: re.Match[str]) -> str:
        day, month = int(match[2]), int(match[3])
        spoken = _say_or_keep(match, day, month, "", language)
        return spoken if spoken == match[0] else f"{match[1]} {spoken}"

    text = _ISO_RE.sub(replace_iso, text)
    text = _DAY_FIRST_RE.sub(replace_day_first, text)
    if language != "en":
        text = _DAY_MONTH_RE.sub(replace_day_month, text)
    text = _expand_written(text, language)
    if language == "zh-cn":
        text = _EAST_ASIAN_YEAR_RE.sub(lambda match: read_digits(match[1], language), text)
    if language == "de":
        text = _GERMAN_YEAR_RE.sub(lambda m: f"{m[1]} {_say_year(m[2], 'de')}", text)
    if language == "en":
        text = _DECADE_RE.sub(_say_decade, text)
        text = _ENGLISH_YEAR_RE.sub(lambda m: f"{m[1]} {_say_year(m[2], 'en')}", text)
    return text


def _say_or_keep(match: re.Match[str], day: int, month: int, year: str, language: str) -> str:
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return match[0]
    patterns = _PATTERNS if year else _PATTERNS_WITHOUT_YEAR
    pattern = patterns.get(language, "{day} {month} {year}")
    before = match.string[: match.start()]
    return pattern.format(
        day=_say_day(day, language, before),
        month=_month_name(month, language),
        year=_say_year(year, language) if year else "",
    ).strip()


def _say_day(day: int, language: str, before: str) -> str:
    """The day as this language has it in a date; `before` is the text in front of it."""
    if day == 1 and language in _FIRST:
        return _FIRST[language]
    if language == "en":
        return ordinal(day, "en")
    if language == "de":
        return ordinal(day, "de") + ("n" if _GERMAN_DATIVE_RE.search(before) else "r")
    if language in {"pl", "cs"}:
        return _slavic_genitive(ordinal(day, language))
    if language == "ru":
        return re.sub(r"(?:ый|ой)\Z", "ое", re.sub(r"ий\Z", "ье", ordinal(day, "ru")))
    if language == "hu":
        return "elseje" if day == 1 else _hungarian_day(ordinal(day, "hu"))
    return cardinal(day, language)


def _hungarian_day(rank: str) -> str:
    return rank + ("a" if re.search(r"[aou][^eéiíöőüű]*\Z", rank[:-2]) else "e")


def _slavic_genitive(words: str) -> str:
    """Polish and Czech ordinals, masculine -> genitive."""
    spoken = []
    for word in words.split():
        if word.endswith("ý"):
            word = word[:-1] + "ého"
        elif word.endswith("í"):
            word += "ho"
        elif word.endswith("y"):
            word = word[:-1] + "ego"
        elif word.endswith("i"):
            word += "ego"
        spoken.append(word)
    return " ".join(spoken)


def _say_year(year: str, language: str) -> str:
    number = int(year)
    if language == "zh-cn":
        return read_digits(year, language)
    if language in {"en", "de"} and 1100 <= number < 2100:
        from num2words import num2words

        words: str = num2words(number, lang=language, to="year")
        return words
    if language == "pl" and number > 1000:
        return _polish_year(number)
    if language == "ru":
        from num2words import num2words

        return f"{num2words(number, lang='ru', to='ordinal', case='g', gender='m')} года"
    return cardinal(number, language)


def _polish_year(number: int) -> str:
    thousands, rest = number // 1000 * 1000, number % 1000
    hundreds, tail = rest // 100 * 100, rest % 100
    if not tail:
        return cardinal(number, "pl") + " roku"
    head = [cardinal(thousands, "pl"), cardinal(hundreds, "pl") if hundreds else ""]
    return " ".join([*filter(None, head), _slavic_genitive(ordinal(tail, "pl")), "roku"])


def _say_decade(match: re.Match[str]) -> str:
    words = _say_year(f"{match[1]}{match[2]}0", "en")
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


@lru_cache(maxsize=32)
def _month_names(language: str) -> tuple[str, ...]:
    if language in {"zh-cn", "ja"}:
        return tuple(cardinal(month, language) + "月" for month in range(1, 13))
    if language == "ko":
        irregular = {6: "유월", 10: "시월"}
        return tuple(irregular.get(m, cardinal(m, "ko") + "월") for m in range(1, 13))
    from babel import Locale

    wide = Locale.parse(CLDR_LOCALES.get(language, language)).months["format"]["wide"]
    return tuple(wide[month] for month in range(1, 13))


def _month_name(month: int, language: str) -> str:
    return _month_names(language)[month - 1]


@lru_cache(maxsize=32)
def _month_numbers(language: str) -> dict[str, int]:
    """Every written form of a month, in lower case and without a stop -> 1 to 12."""
    from babel import Locale

    months = Locale.parse(CLDR_LOCALES.get(language, language)).months["format"]
    forms = {
        name.lower().rstrip("."): number
        for width in ("abbreviated", "wide")
        for number, name in months[width].items()
    }
    return forms | ({"sept": 9} if language in {"en", "es"} else {})


@lru_cache(maxsize=32)
def _short_pattern(language: str) -> re.Pattern[str] | None:
    """A day, a month's short name and a year: "25 dez. 2024", "25/dez/2024"."""
    if language in _DIGIT_MONTHS:
        return None
    names = "|".join(sorted(map(re.escape, _month_numbers(language)), key=len, reverse=True))
    return re.compile(
        rf"(?<![\d.,])(?P<day>\d{{1,2}})\.?(?:\s+de)?[\s/-]+(?P<month>{names})\.?(?:\s+de)?[\s/-]+"
        r"(?P<year>\d{4})\b",
        re.IGNORECASE,
    )


@lru_cache(maxsize=32)
def _written_pattern(language: str) -> re.Pattern[str] | None:
    """A day and a month's name, with or without a year; None where digits are read right anyway."""
    if language in _DIGIT_MONTHS:
        return None
    months = "|".join(re.escape(name) for name in _month_names(language))
    if language == "en":
        return re.compile(
            rf"\b(?P<month>{months}|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)(?=\.?\s+\d))\.?\s+"
            r"(?P<day>\d{1,2})(?:st|nd|rd|th)?\b(?!:\d)(?:,?\s+(?P<year>\d{4})\b)?"
        )
    if language == "hu":
        return re.compile(
            rf"(?:(?P<year>\d{{4}})\.?\s+)?(?P<month>{months})\s+(?P<day>\d{{1,2}})(?:\.|\b)(?!-)",
            re.IGNORECASE,
        )
    link = r"(?:\s+de|\s+del)?" if language in {"pt", "es"} else ""
    tail = r"(?:\s+(?:г\.|года|r\.|roku))?"
    return re.compile(
        rf"(?<![\d.,])(?P<day>\d{{1,2}})(?:\.|º|er|\.º)?{link}\s+(?P<month>{months})\b"
        rf"(?:{link}\s+(?P<year>\d{{4}})\b{tail})?",
        re.IGNORECASE,
    )


#: Languages whose written dates are read right number by number.
_DIGIT_MONTHS = frozenset({"zh-cn", "ja", "ko", "ar", "hi", "tr"})
_ENGLISH_DAY_FIRST = re.compile(
    r"\b(\d{1,2})(?:st|nd|rd|th)?\s+(?:of\s+)?(January|February|March|April|May|June|July|August|"
    r"September|October|November|December)\b(?:,?\s+(\d{4})\b)?"
)


def _expand_written(text: str, language: str) -> str:
    pattern = _written_pattern(language)
    if pattern is None:
        return text

    def replace(match: re.Match[str]) -> str:
        month = _month_numbers(language)[match["month"].lower()]
        return _say_or_keep(match, int(match["day"]), month, match["year"] or "", language)

    def replace_english(match: re.Match[str]) -> str:
        day = int(match[1])
        if not 1 <= day <= 31:
            return match[0]
        year = f" {_say_year(match[3], 'en')}" if match[3] else ""
        article = "" if re.search(r"(?i)\bthe\s+\Z", match.string[: match.start()]) else "the "
        return f"{article}{ordinal(day, 'en')} of {match[2]}{year}"

    if language == "en":
        text = _ENGLISH_DAY_FIRST.sub(replace_english, text)
    if language == "hu":  # the year's stop is part of the date: "2024. december 25-én"
        months = "|".join(_month_names(language))
        text = re.sub(rf"(\d{{4}})\.(?=\s+(?:{months}))", r"\1", text)
    short = _short_pattern(language)
    text = pattern.sub(replace, text)
    return short.sub(replace, text) if short else text
