"""Text to phonemes: the front end of models whose manifest says `front_end: "phonemes"`.

Training and inference both call `phonemize`, so a model always sees the symbols it was trained
with. Knows gruut (lexicon, and a guesser for words outside it); knows nothing of token ids.
gruut takes a second to load, so it is imported at the first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from app.errors import InputError
from app.text.pronunciation import read_words

#: XTTS language code to gruut's.
GRUUT_LANGUAGES = {"en": "en-us"}

#: Single characters that may stand between phonemes.
PUNCTUATION = (",", ".", "!", "?")

#: Symbols of more than one character; affricates and diphthongs are one sound each.
COMPOUNDS = ("tʃ", "dʒ", "aɪ", "aʊ", "eɪ", "oʊ", "ɔɪ")
VOWELS = ("ɑ", "æ", "ʌ", "ə", "ɔ", "ɛ", "ɚ", "ɝ", "i", "ɪ", "ʊ", "u", "o", "e", "a")

_PRIMARY_STRESS = "ˈ"
_SYMBOL_RE = re.compile(f"{_PRIMARY_STRESS}?(?:{'|'.join(COMPOUNDS)}|.)")
_DROPPED = str.maketrans("", "", "ˌ͡‿")  # secondary stress, tie bar, liaison
_MINOR_BREAK = "|"
_MAJOR_BREAK = "‖"


def phonemize(text: str, language: str) -> str:
    """Returns `text` as IPA: words separated by one space, punctuation after its word.

    A stressed vowel carries `ˈ` in front. Numbers and abbreviations that were not written out
    before are written out by gruut. The result is empty where nothing can be spoken.

    Raises:
        InputError: no phonemes for this language.
    """
    return " ".join("".join(word) for word in phoneme_words(text, language))


def phoneme_words(text: str, language: str) -> list[list[str]]:
    """Returns the symbols of each word of `text`; punctuation ends the word before it.

    A text without punctuation at its end is read as if it had a full stop.

    Raises:
        InputError: no phonemes for this language.
    """
    if language not in GRUUT_LANGUAGES:
        known = ", ".join(GRUUT_LANGUAGES)
        raise InputError(
            f"This model reads phonemes, and there are none for language {language!r}; "
            f"choose one of: {known}.",
            param="language",
        )
    words: list[list[str]] = []
    for word in read_words(text, GRUUT_LANGUAGES[language]):
        symbols = list(_symbols(word))
        if not symbols:
            continue
        if symbols[0] in PUNCTUATION:
            if words and words[-1][-1] not in PUNCTUATION:
                words[-1].extend(symbols)
            continue
        words.append(symbols)
    # Every text of the training data ended in punctuation; the models stop there.
    if words and words[-1][-1] not in PUNCTUATION:
        words[-1].append(".")
    # A sequence such as t + ʃ across syllables is spelt like the affricate, so it is one too.
    return [split_symbols("".join(symbols)) for symbols in words]


def _symbols(word: Any) -> Iterator[str]:
    for phoneme in word.phonemes or ():
        if phoneme == _MINOR_BREAK:
            yield ","
        elif phoneme == _MAJOR_BREAK:
            yield word.text if word.text in PUNCTUATION else "."
        elif symbol := phoneme.translate(_DROPPED):
            yield symbol


def split_symbols(phonemes: str) -> list[str]:
    """Returns the symbols of what `phonemize` returned; each is one token, spaces included."""
    return _SYMBOL_RE.findall(phonemes)


def is_vowel(symbol: str) -> bool:
    """Tells whether a symbol made by `phonemize` is a vowel, stressed or not."""
    return symbol.removeprefix(_PRIMARY_STRESS).startswith(VOWELS)
