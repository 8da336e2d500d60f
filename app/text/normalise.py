"""Written signs -> the words that a person would read out.

Knows the order in which signs must be read: addresses before abbreviations, dates before numbers,
the largest pattern first. Text without digits, signs and abbreviations comes out as it went in.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from app.text.abbreviations import expand_abbreviations
from app.text.dates import expand_dates
from app.text.lexicon import LEXICON
from app.text.numbers import (
    NUMBER,
    SPACE_GROUP_LANGUAGES,
    SPACED_NUMBER,
    cardinal,
    is_feminine,
    parse_number,
    read_digits,
    read_number,
)
from app.text.ordinals import expand_ordinals
from app.text.quantities import expand_quantities
from app.text.times import expand_times

#: Anything that may need reading; the rest of this module is skipped without it.
_SIGN_RE = re.compile(r"[\d%&@#+=_°º$€£¥₹×÷±<>~^|\\№½¼¾²³]")

_ADDRESS_RE = re.compile(
    r"(?:https?://|www\.)[^\s<>\"]+|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|(?<![\w.@-])(?:[A-Za-z][\w-]*\.)+(?:com|org|net|edu|gov|io|dev|info|br|pt|de|fr|es|it|nl|pl|eu|uk"
    r"|co|ai|app)(?:/[^\s<>\"]*)?(?![\w.-]*\w)"
)
_INTERNATIONAL_PHONE = r"\+\d{1,3}(?:[ -]?\(?\d{1,5}\)?){1,6}"
_LOCAL_PHONE = (
    r"\(\d{2,5}\)\s?\d{3,5}[ -]?\d{3,5}|\d{3,5}-\d{4}|(?:1-)?\d{3}-\d{3}-\d{4}"
    r"|0\d{3}[ -]\d{3}[ -]\d{4}"
)
#: Brazilian CPF, CNPJ and CEP, whose digits are read one by one.
_REGISTRY_NUMBER = r"\d{3}\.\d{3}\.\d{3}-\d{2}|\d{2}\.\d{3}\.\d{3}/\d{4}-\d{2}|\d{5}-\d{3}"
_PHONE_RE = re.compile(
    rf"(?<![\w.,/-])(?:{_INTERNATIONAL_PHONE}|{_REGISTRY_NUMBER}|{_LOCAL_PHONE})(?![\w/-]|[.,]\d)"
)
#: Whatever digits follow the word "telephone" or its like.
_AFTER_PHONE_WORD_RE = re.compile(
    r"(?i)\b((?:tel[eé]fon[eoa]?|telefoon|téléphone|telephone|phone|celular|móvil|fax|"
    r"whatsapp)\W{1,3})(?=\d)[\d ()/.-]{5,}\d"
)
_LONG_DIGITS_RE = re.compile(r"(?<![\d.,])\d{9,}(?!\d|[.,]\d)")
_DOTTED_RE = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}(?![\d.]*\d)")
_RANGE_RE = re.compile(r"(?<=\d)\s?[–—]\s?(?=\d)|(?<=\d)-(?=\d)")
_TIMES_RE = re.compile(r"(?<=\d)\s?[x×]\s?(?=\d)")
_DIGIT_SLASH_RE = re.compile(r"(?<=\d)/(?=\d)")
_MINUS_RE = re.compile(r"(?<![\w)\]%°])[-−–](?=\d|(?:R\$|US\$|[$€£])\s?\d)")
_BARE_POINT_RE = re.compile(r"(?<![\w.])\.(?=\d)")
_FRACTION_RE = re.compile(r"(?<![\d/.,])(\d{1,3})/(\d{1,3})(?![\d/])")
_MIXED_RE = re.compile(r"(?<=[^\W\d_])-?(?=\d)|(?<=\d)(?=[^\W\d_])")
_MATHS_RE = re.compile(r"\s*([+=×÷±&])\s*")
_HASHTAG_RE = re.compile(r"#(?=[^\W\d_])")
#: Scripts without spaces: a mark shows the patterns where a number or sign begins or ends.
_EDGE = "\u2060"
_CJK = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_CJK_EDGE_RE = re.compile(rf"(?<={_CJK})(?=[\d$€£¥+-])|(?<=[A-Za-z$€£¥%°℃℉²³])(?={_CJK})")
_SPACES_RE = re.compile(r"\s+")
_VULGAR = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅛": "1/8"}
_HALVES = {
    "en": "one half", "pt": "meio", "es": "medio", "fr": "un demi", "de": "einhalb",
    "it": "mezzo", "nl": "een half", "pl": "pół", "ru": "половина", "cs": "půl", "tr": "yarım",
    "hu": "fél", "ar": "نصف", "hi": "आधा",
}  # fmt: skip
_PARTS = {
    "en": {3: "third|thirds", 4: "quarter|quarters"},
    "pt": {3: "terço|terços", 4: "quarto|quartos"},
    "es": {3: "tercio|tercios", 4: "cuarto|cuartos"},
    "fr": {3: "tiers|tiers", 4: "quart|quarts"},
    "de": {3: "Drittel|Drittel", 4: "Viertel|Viertel"},
    "it": {3: "terzo|terzi", 4: "quarto|quarti"},
    "nl": {3: "derde|derde", 4: "kwart|kwart"},
}
#: How a division or fraction that is no part of the lexicon is said in East Asia.
_FRACTIONS = {"zh-cn": "{d}分之{n}", "ja": "{d}分の{n}", "ko": "{d} 분의 {n}"}


def normalise(text: str, language: str) -> str:
    """Returns the text as it is read aloud.

    Args:
        text: clean text of one language.
        language: an XTTS code.
    """
    if _SIGN_RE.search(text) is None and not _has_foreign_signs(text):
        return expand_abbreviations(_expand_addresses(text, language), language)
    text = text.translate(_ascii_digits(text))
    for sign, plain in _VULGAR.items():
        text = re.sub(rf"(?<=\d)\s?{sign}", f" {LEXICON[language].and_word} {plain}", text)
        text = text.replace(sign, plain)
    text = _CJK_EDGE_RE.sub(_EDGE, text)
    text = _BARE_POINT_RE.sub("0.", text)
    text = _expand_addresses(text, language)
    text = expand_dates(text, language)
    text = expand_abbreviations(text, language)
    text = expand_times(text, language)
    text = _expand_phones(text, language)
    text = _TIMES_RE.sub("×", text)
    text = _RANGE_RE.sub(f" {LEXICON[language].to} ", text)
    text = _MINUS_RE.sub(f"{LEXICON[language].minus} ", text)
    text = re.sub(r"#(?=\s?\d)", f" {LEXICON[language].number_sign} ", text)
    text = expand_ordinals(text, language)
    text = expand_quantities(text, language)
    text = _expand_digit_strings(text, language)
    text = _expand_numbers(text, language)
    text = _expand_signs(text, language)
    return _SPACES_RE.sub(" ", text.replace(_EDGE, "")).strip()


def _has_foreign_signs(text: str) -> bool:
    return not text.isascii() and any(char.isnumeric() and not char.isalpha() for char in text)


def _ascii_digits(text: str) -> dict[int, str]:
    """Digits of other scripts -> ASCII; Arabic separators -> their Western twins."""
    table = {ord("٫"): ".", ord("٬"): ",", ord("٪"): "%", ord("−"): "-"}
    if not text.isascii():
        for char in set(text):
            if char.isdecimal() and not char.isascii():
                table[ord(char)] = str(unicodedata.decimal(char))
    return table


def _expand_addresses(text: str, language: str) -> str:
    """Reads the signs inside web and mail addresses, whatever they mean elsewhere."""
    if "@" not in text and "://" not in text and re.search(r"\w\.\w", text) is None:
        return text
    lexicon = LEXICON[language]
    signs = {
        "@": lexicon.at,
        ".": lexicon.dot,
        "/": lexicon.slash,
        "-": lexicon.hyphen,
        "_": lexicon.underscore,
        "+": lexicon.plus,
        "=": lexicon.equals,
        "&": lexicon.and_word,
    }

    def replace(match: re.Match[str]) -> str:
        address = match[0]
        tail = address[len(address.rstrip(".,;:!?)'\"")) :]
        address = re.sub(r"\Ahttps?://", "", address[: len(address) - len(tail)]).rstrip("/")
        words = re.sub(r"[^\w]|_", lambda sign: f" {signs.get(sign[0], '')} ", address)
        return _SPACES_RE.sub(" ", words).strip() + tail

    return _ADDRESS_RE.sub(replace, text)


def _expand_phones(text: str, language: str) -> str:
    """Telephone and registry numbers: group by group, each digit by itself."""

    def read_groups(match: re.Match[str]) -> str:
        if re.fullmatch(r"(1\d{3}|20\d\d)-(1\d{3}|20\d\d)", match[0]):
            return match[0]
        groups = re.findall(r"\d+", match[0])
        spoken = ", ".join(read_digits(group, language) for group in groups)
        return f"{LEXICON[language].plus} {spoken}" if match[0].startswith("+") else spoken

    text = _PHONE_RE.sub(read_groups, text)
    return _AFTER_PHONE_WORD_RE.sub(lambda match: match[1] + read_groups(match), text)


def _expand_digit_strings(text: str, language: str) -> str:
    """Versions, network addresses and long runs, whose digits mean no amount."""

    def read_long(match: re.Match[str]) -> str:
        is_round = match[0].endswith("000000") and match[0][0] != "0"
        return match[0] if is_round and len(match[0]) <= 15 else read_digits(match[0], language)

    def read_dotted(match: re.Match[str]) -> str:
        groups = match[0].split(".")
        if all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3:
            return match[0]
        numbers = (read_number(parse_number(group, language), language) for group in groups)
        return f" {LEXICON[language].dot} ".join(numbers)

    if LEXICON[language].spaced:
        text = _MIXED_RE.sub(" ", text)
    text = _DOTTED_RE.sub(read_dotted, text)
    return _LONG_DIGITS_RE.sub(read_long, text)


@lru_cache(maxsize=32)
def _number_pattern(language: str) -> re.Pattern[str]:
    written = SPACED_NUMBER if language in SPACE_GROUP_LANGUAGES else NUMBER
    return re.compile(rf"({written})(?:\s?([^\W\d_]+))?")


def _expand_numbers(text: str, language: str) -> str:
    lexicon = LEXICON[language]
    if not any(char.isdigit() for char in text):
        return text
    text = _FRACTION_RE.sub(lambda match: _say_fraction(match, language), text)
    text = _DIGIT_SLASH_RE.sub(f" {lexicon.slash} ", text)

    def replace(match: re.Match[str]) -> str:
        noun = match[2] or ""
        number = parse_number(match[1], language)
        if language == "zh-cn" and match[1] == "2" and noun[:1] in _CHINESE_MEASURES:
            return "两" + noun
        spoken = read_number(number, language, noun)
        return spoken + match[0][len(match[1]) :]

    return _number_pattern(language).sub(replace, text)


_CHINESE_MEASURES = frozenset("个位只名次岁天块本张条件家种")


def _say_fraction(match: re.Match[str], language: str) -> str:
    over, under = int(match[1]), int(match[2])
    if (over, under) == (1, 2) and language in _HALVES:
        noun = match.string[match.end() :].split()[:1]
        feminine = (
            language in {"pt", "es"} and noun and is_feminine(noun[0].strip(".,;:!?"), language)
        )
        return _HALVES[language][:-1] + "a" if feminine else _HALVES[language]
    if over < under and under in _PARTS.get(language, {}):
        one, many = _PARTS[language][under].split("|")
        return f"{cardinal(over, language, one)} {one if over == 1 else many}"
    upper, lower = cardinal(over, language), cardinal(under, language)
    if language in _FRACTIONS:
        return _FRACTIONS[language].format(n=upper, d=lower)
    if over > under:  # "24/7" is no fraction
        return f"{upper} {lower}"
    return f"{upper} {LEXICON[language].over} {lower}"


def _expand_signs(text: str, language: str) -> str:
    lexicon = LEXICON[language]
    words = {
        "+": lexicon.plus,
        "=": lexicon.equals,
        "×": lexicon.times,
        "÷": lexicon.over,
        "±": f"{lexicon.plus} {lexicon.minus}",
        "&": lexicon.and_word,
    }
    text = _MATHS_RE.sub(lambda match: f" {words[match[1]]} ", text)
    text = re.sub(r"(?<=\w)#", " sharp", text)  # C#
    text = _HASHTAG_RE.sub("hashtag ", text)
    text = re.sub(r"\s*@\s*", f" {lexicon.at} ", text)
    text = re.sub(r"\s*%", f" {lexicon.percent}", text)
    text = re.sub(r"\s*[°℃℉](?!\w)", f" {lexicon.degrees}", text)
    return re.sub(r"[_~^|\\<>*`#]+", " ", text)
