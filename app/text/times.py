"""Clock times in words: 14:30, 14h30, 2:30 pm."""

from __future__ import annotations

import re

from app.text.numbers import cardinal, ordinal

_CLOCK_RE = re.compile(
    r"(?<![\d:.,/])([01]?\d|2[0-4])\s?[:：]\s?([0-5]\d)(?::([0-5]\d))?(?![\d:])"
    r"(?:\s?(?:h|hs|Uhr|uur|ч|óra|hod|hodin)\b|\s?बजे)?"
    r"(?:\s?([ap])(?:\.m\.(?!\s*\Z|\s+[A-Z])|\.?m\b))?",
    re.IGNORECASE,
)
_AM_PM_RE = re.compile(
    r"\b(1[0-2]|0?[1-9])\s?([ap])(?:\.m\.(?!\s*\Z|\s+[A-Z])|\.?m\b)", re.IGNORECASE
)
#: "14h30", "14 h"; said as a duration too, so it needs no clock.
_H_RE = re.compile(r"(?<![\d.,:])(\d{1,2})\s?h(?:rs|s|oras)?\s?([0-5]\d)?(?:\s?min\b)?(?![\w/])")
#: A stop between hours and minutes only where the language's word for the clock is beside it.
_DOTTED_RE = re.compile(
    r"(?:(?<=ore )|(?<=alle ))([01]?\d|2[0-4])\.([0-5]\d)\b"
    r"|([01]?\d|2[0-4])\.([0-5]\d)\s?(?:Uhr|uur|hod)\b"
)
_WHOLE_UHR_RE = re.compile(r"\b([01]?\d|2[0-4])(?=\s+Uhr\b)")

#: hour, minute -> words; first with minutes, then at the full hour (source: each language's usual
#: reading of a digital clock)
_CLOCKS = {
    "en": ("{h} {m}", "{h} o'clock"),
    "es": ("{h} y {m}", "{h} en punto"),
    "fr": ("{h} heures {m}", "{h} heures"),
    "de": ("{h} Uhr {m}", "{h} Uhr"),
    "it": ("{h} e {m}", "{h} in punto"),
    "pt": ("{h} horas e {m}", "{h} horas"),
    "pl": ("{h} {m}", "{h}"),
    "tr": ("{h} {m}", "{h}"),
    "ru": ("{h} {m}", "{h} ноль ноль"),
    "nl": ("{h} uur {m}", "{h} uur"),
    "cs": ("{h} hodin {m}", "{h} hodin"),
    "ar": ("{h} و {m} دقيقة", "{h}"),
    "zh-cn": ("{h}点{m}分", "{h}点"),
    "hu": ("{h} óra {m}", "{h} óra"),
    "ko": ("{h} 시 {m} 분", "{h} 시"),
    "ja": ("{h}時{m}分", "{h}時"),
    "hi": ("{h} बजकर {m} मिनट", "{h} बजे"),
}
_H_LANGUAGES = frozenset({"pt", "fr", "es"})
_KOREAN_HOURS = (
    *("영", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열", "열한", "열두"),
    *(
        "십삼",
        "십사",
        "십오",
        "십육",
        "십칠",
        "십팔",
        "십구",
        "이십",
        "이십일",
        "이십이",
        "이십삼",
        "이십사",
    ),
)
_POLISH_OBLIQUE_RE = re.compile(r"(?i)\b(?:o|po|do|od|około|przed)\s+\Z")


def expand_times(text: str, language: str) -> str:
    """Replaces clock times with words."""

    def replace_clock(match: re.Match[str]) -> str:
        spoken = say_time(int(match[1]), int(match[2]), language, match.string[: match.start()])
        if match[3] and int(match[3]):
            spoken += f" {cardinal(int(match[3]), language)}"
        if match[4]:
            spoken = spoken.replace(" o'clock", "") + f" {match[4].lower()} m"
        return spoken

    def replace_h(match: re.Match[str]) -> str:
        return _say_h(int(match[1]), int(match[2] or 0), language)

    def replace_dotted(match: re.Match[str]) -> str:
        hour, minute = (match[1], match[2]) if match[1] else (match[3], match[4])
        return say_time(int(hour), int(minute), language)

    if language in {"de", "nl", "it", "cs"}:
        text = _DOTTED_RE.sub(replace_dotted, text)
    if language == "de":
        text = _WHOLE_UHR_RE.sub(lambda m: cardinal(int(m[1]), "de", "Uhr"), text)
    text = _CLOCK_RE.sub(replace_clock, text)
    if language == "en":
        text = _AM_PM_RE.sub(lambda m: f"{cardinal(int(m[1]), 'en')} {m[2].lower()} m", text)
    if language in _H_LANGUAGES:
        text = _H_RE.sub(replace_h, text)
    return text


def say_time(hour: int, minute: int, language: str, before: str = "") -> str:
    """Says a clock time.

    Args:
        hour: 0 to 24.
        minute: 0 to 59.
        language: an XTTS code.
        before: the text in front of it, for languages that inflect the hour.
    """
    if language in _H_LANGUAGES and language != "es":
        return _say_h(hour, minute, language)
    with_minutes, full = _CLOCKS[language]
    return (with_minutes if minute else full).format(
        h=_say_hour(hour, language, before), m=_say_minute(minute, language)
    )


def _say_hour(hour: int, language: str, before: str) -> str:
    if language == "ko":
        return _KOREAN_HOURS[hour]
    if language == "pl":
        nominative = ordinal(hour, "pl", feminine=True) if hour else "zero"
        if _POLISH_OBLIQUE_RE.search(before):
            return re.sub(r"a\b", "ej", nominative)
        return nominative
    if language == "zh-cn" and hour == 2:
        return "两"
    return cardinal(hour, language, "horas" if language in {"pt", "es"} else "Uhr")


def _say_minute(minute: int, language: str) -> str:
    if minute < 10 and language == "en":
        return f"oh {cardinal(minute, language)}"
    if minute < 10 and language in {"ru", "pl", "cs"}:
        return f"{cardinal(0, language)} {cardinal(minute, language)}"
    return cardinal(minute, language)


def _say_h(hour: int, minute: int, language: str) -> str:
    one, many = {"pt": ("hora", "horas"), "fr": ("heure", "heures")}.get(
        language, ("hora", "horas")
    )
    noun = one if hour in {0, 1} and (language == "fr" or hour == 1) else many
    link = {"pt": " e ", "fr": " ", "es": " y "}[language]
    spoken = f"{cardinal(hour, language, noun)} {noun}"
    return spoken + (link + cardinal(minute, language) if minute else "")
