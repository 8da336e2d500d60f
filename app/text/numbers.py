"""Numbers in words, for every language of XTTS: cardinals, ordinals, decimals, digit strings.

Uses num2words where it knows the language well, else `numerals`. Knows how each language writes its
thousands and decimals; does not know what a number counts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from app.text.lexicon import LEXICON
from app.text.numerals import (
    say_chinese,
    say_czech_rank,
    say_hindi,
    say_turkish,
    say_turkish_rank,
)

#: More digits than this are read one by one: the libraries' names end there, and so do listeners.
_MAX_DIGITS = 15

#: Languages whose thousands may be parted by a space.
SPACE_GROUP_LANGUAGES = frozenset({"fr", "pl", "ru", "cs", "hu", "pt", "es"})

#: Languages that say the decimals digit by digit; the others say up to two of them as a number.
_DIGITWISE_DECIMALS = frozenset({"en", "de", "zh-cn", "ja", "ko", "hi", "ar", "tr"})

#: Digits as a person writes a number, separators included.
NUMBER = (
    r"\d{1,3}(?:[.,']\d{3})+(?:[.,]\d+)?(?!\d)|\d{1,3}(?:,\d{2})+,\d{3}(?:\.\d+)?(?!\d)"
    r"|\d+[.,]\d+|\d+"
)
#: The same with spaces between thousands.
SPACED_NUMBER = rf"\d{{1,3}}(?: \d{{3}})+(?![\d.]\d)(?:,\d+)?(?!\d)|{NUMBER}"

_WORDS_RE = re.compile(r"\S+")
#: Nouns that end like feminine ones and are not, and small words that are no nouns.
_PORTUGUESE_MASCULINE = frozenset(
    _WORDS_RE.findall(
        "dia dias mapa mapas problema problemas programa programas sistema sistemas tema "
        "temas planeta planetas clima telegrama drama poema poemas grama gramas "
        "quilograma quilogramas idioma idiomas aroma cinema cinemas esquema esquemas "
        "diploma diplomas artista artistas dentista motorista atleta atletas turista "
        "turistas colega colegas guarda sofá sofás para contra e da na as a mas apenas era à às"
    )
)
_SPANISH_MASCULINE = frozenset(
    _WORDS_RE.findall(
        "día días mapa mapas problema problemas programa programas sistema sistemas tema "
        "temas planeta planetas idioma idiomas para a la las"
    )
)
_PORTUGUESE_FEMININE = re.compile(
    r"(?:as?|ção|ções|são|sões|dades?|gens?|tudes?|noites?|vez(?:es)?|mulher(?:es)?|m[ãa]es?|"
    r"árvores?|tardes?|partes?|fontes?|paredes?|chaves?)\Z"
)
_SPANISH_FEMININE = re.compile(
    r"(?:as?|ción|ciones|sión|siones|dad|dades|tud|tudes|noches?|vez|veces|mujer(?:es)?|"
    r"tardes?|partes?)\Z"
)
_CZECH_FEMININE = frozenset(
    ("koruna", "koruny", "libra", "libry", "minuta", "minuty", "hodina", "hodiny", "sekunda",
     "sekundy", "tuna", "tuny", "strana", "strany", "ženy", "knihy", "osoby")
)  # fmt: skip
_POLISH_FEMININE = frozenset(
    ("minuta", "minuty", "godzina", "godziny", "sekunda", "sekundy", "tona", "tony", "korona",
     "korony", "strona", "strony", "kobiety", "książki", "osoby")
)  # fmt: skip
_FRENCH_FEMININE = frozenset(
    ("heure", "minute", "seconde", "tonne", "livre", "année", "semaine", "personne", "fois", "page")
)


class Number(NamedTuple):
    """A number as it stands in a text."""

    #: all digits before the decimal separator, leading zeros included
    whole: str
    #: the digits after it
    decimals: str

    @property
    def value(self) -> float:
        """Its size, for choosing a plural."""
        return float(f"{self.whole or 0}.{self.decimals or 0}")


def parse_number(written: str, language: str) -> Number:
    """Reads a number by the habits of a language; "1.234,5" and "1,234.5" are clear in any.

    Args:
        written: what `NUMBER` or `SPACED_NUMBER` matched.
        language: an XTTS code.
    """
    written = written.replace(" ", "").replace("'", "")
    dot, comma = written.rfind("."), written.rfind(",")
    if dot >= 0 and comma >= 0:
        decimal = "." if dot > comma else ","
    elif dot < 0 and comma < 0:
        return Number(written, "")
    else:
        separator = "." if dot >= 0 else ","
        decimal_habit = LEXICON[language].decimal_separator
        head, *groups = written.split(separator)
        grouped = all(len(group) == 3 for group in groups) and 0 < len(head.lstrip("0")) <= 3
        indian = len(groups) > 1
        is_decimal = not indian and (separator == decimal_habit or not grouped)
        decimal = separator if is_decimal else ("," if separator == "." else ".")
    whole, _, decimals = written.partition(decimal)
    return Number(re.sub(r"\D", "", whole), re.sub(r"\D", "", decimals))


def read_number(number: Number, language: str, noun: str = "") -> str:
    """Says a number, decimals included, in agreement with the noun after it, if it is known.

    Args:
        number: from `parse_number`.
        language: an XTTS code.
        noun: the word it counts, or "".
    """
    if not number.decimals:
        return read_digits_or_cardinal(number.whole, language, noun)
    lexicon = LEXICON[language]
    whole = read_digits_or_cardinal(number.whole or "0", language)
    decimals = number.decimals
    if language == "hu" and len(decimals) <= 3:
        part = ("tized", "század", "ezred")[len(decimals) - 1]
        return f"{whole} egész {cardinal(int(decimals), language)} {part}"
    leading_zeros = len(decimals) - len(decimals.lstrip("0"))
    if language in _DIGITWISE_DECIMALS or len(decimals) > 2 or leading_zeros:
        spoken = read_digits(decimals, language)
    else:
        spoken = cardinal(int(decimals), language)
    return lexicon.join(whole, lexicon.decimal_word, spoken)


def read_digits(digits: str, language: str) -> str:
    """Says each digit by itself."""
    return LEXICON[language].join(*(cardinal(int(digit), language) for digit in digits))


def read_digits_or_cardinal(digits: str, language: str, noun: str = "") -> str:
    """Says a digit string as a number, unless a leading zero or its length forbids."""
    if len(digits) > _MAX_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return read_digits(digits, language)
    return cardinal(int(digits), language, noun)


def cardinal(number: int, language: str, noun: str = "") -> str:
    """Says a whole number of at most 15 digits.

    Args:
        number: not negative.
        language: an XTTS code.
        noun: the word it counts, for languages where "one", "two" or "hundreds" have a gender.
    """
    words = _cardinal_words(number, language)
    return _agree(words, language, noun) if noun else words


@lru_cache(maxsize=4096)
def _cardinal_words(number: int, language: str) -> str:
    if language == "zh-cn":
        return say_chinese(number)
    if language == "hi":
        return say_hindi(number)
    if language == "tr":
        return say_turkish(number)
    from num2words import num2words

    code = "pt_BR" if language == "pt" else language
    words: str = num2words(number, lang=code)
    if language in {"pt", "en"}:
        words = words.replace(",", "")
    if language == "ru":
        words = words.removeprefix("одна тысяча").strip() if words == "одна тысяча" else words
        words = words or "тысяча"
    if language == "cs":
        words = re.sub(r"\bjedna\Z", "jeden", words) if number > 1 else words
    return words


def ordinal(number: int, language: str, *, feminine: bool = False) -> str:
    """Says a rank, such as "third", in the form of the dictionary.

    Args:
        number: at least 1.
        language: an XTTS code.
        feminine: the form for a feminine noun, where the language has one.
    """
    if language == "zh-cn":
        return "第" + say_chinese(number)
    if language == "hi":
        return {1: "पहला", 2: "दूसरा", 3: "तीसरा", 4: "चौथा", 6: "छठा"}.get(
            number, say_hindi(number) + "वाँ"
        )
    if language == "tr":
        return say_turkish_rank(number)
    if language == "cs":
        return say_czech_rank(number) if number <= 100 else cardinal(number, "cs")
    from num2words import num2words

    if number > 999 and language in {"pl", "pt", "es", "it", "ko", "ar"}:
        return cardinal(number, language)
    if language == "ko" and number > 99:
        return f"{cardinal(number, language)} 번째"
    words: str = num2words(number, lang="pt_BR" if language == "pt" else language, to="ordinal")
    if feminine:
        words = _feminine_ordinal(words, language)
    return words


def _feminine_ordinal(words: str, language: str) -> str:
    if language in {"pt", "es", "it"}:
        return re.sub(r"o\b", "a", words)
    if language == "fr" and words == "premier":
        return "première"
    if language == "pl":
        return " ".join(re.sub(r"(?:y|(?<=[gc])i)\Z", "a", word) for word in words.split())
    if language == "ru":
        return re.sub(r"(?:ый|ой)\Z", "ая", re.sub(r"ий\Z", "ья", words))
    return words


def _agree(words: str, language: str, noun: str) -> str:
    """Fits the last word of a number to the noun it counts."""
    noun = noun.lower()
    if language == "pt" and is_feminine(noun, "pt"):
        words = re.sub(r"\bum\Z", "uma", words)
        words = re.sub(r"\bdois\Z", "duas", words)
        words = re.sub(r"\bdois mil\b", "duas mil", words)
        return re.sub(r"entos\b", "entas", words)
    if language == "es":
        if is_feminine(noun, "es"):
            return re.sub(r"cientos\b", "cientas", re.sub(r"uno\Z", "una", words))
        return re.sub(r"\buno\Z", "un", re.sub(r"veintiuno\Z", "veintiún", words))
    if language == "fr" and noun.rstrip("s") in _FRENCH_FEMININE:
        return re.sub(r"\bun\Z", "une", words)
    if language == "it" and words == "uno":
        return "una" if noun.endswith("a") else "un"
    if language == "de" and words == "eins":
        return "eine" if noun.endswith(("e", "ung", "heit", "keit")) else "ein"
    if language == "ru" and noun.endswith(("а", "я", "ы", "и")):
        return re.sub(r"\bдва\Z", "две", re.sub(r"\bодин\Z", "одна", words))
    if language == "cs":
        two = "dvě" if noun in _CZECH_FEMININE else "dva"
        one = "jedna" if noun in _CZECH_FEMININE else "jeden"
        return re.sub(r"\bdva\Z", two, re.sub(r"\bjedna\Z", one, words))
    if language == "pl" and noun in _POLISH_FEMININE:
        return re.sub(r"\bdwa\Z", "dwie", "jedna" if words == "jeden" else words)
    return words


def is_feminine(noun: str, language: str) -> bool:
    """Guesses the gender of a Portuguese or Spanish noun by its ending."""
    noun = noun.lower()
    if language == "pt":
        return noun not in _PORTUGUESE_MASCULINE and bool(_PORTUGUESE_FEMININE.search(noun))
    return noun not in _SPANISH_MASCULINE and bool(_SPANISH_FEMININE.search(noun))
