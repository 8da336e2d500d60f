"""Words -> token ids, by the vocabulary of the model at hand.

Knows the file format, the special tokens, and how to spell a character that the vocabulary lacks.
Does not know how a language is spelt (`spelling`, `phonemes`). Expects text that is clean and whose
numbers are words already.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from app.errors import InputError, ModelFileError
from app.text.spelling import LetterSpeller

if TYPE_CHECKING:
    from tokenizers import Tokenizer  # type: ignore[import-untyped]

FrontEnd = Literal["letters", "phonemes"]

_LANGUAGE_TOKEN_RE = re.compile(r"\[([a-z]{2}(?:-[a-z]{2})?)\]")
_SPACES_RE = re.compile(r"\s+")


class Spelling(NamedTuple):
    """How a text is spelt for one model."""

    #: what the vocabulary encodes, one symbol each, without the language token
    symbols: tuple[str, ...]
    #: characters that no spelling was found for, in order of first use
    dropped: str

    @property
    def text(self) -> str:
        """The symbols in a row."""
        return "".join(self.symbols)


class TextTokenizer:
    """The vocabulary of one model. Holds no state of a request; safe to share among threads."""

    def __init__(self, tokenizer: Tokenizer, front_end: FrontEnd = "letters") -> None:
        """Takes the parsed vocabulary; `from_file` is the usual way in."""
        vocab = tokenizer.get_vocab()
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._front_end = front_end
        self._speller = LetterSpeller()
        self._known = frozenset(token for token in vocab if len(token) == 1) - {"[", "]"}
        #: codes whose `[xx]` token the vocabulary has, sorted
        self.languages: tuple[str, ...] = tuple(
            sorted(found[1] for token in vocab if (found := _LANGUAGE_TOKEN_RE.fullmatch(token)))
        )
        #: size of an embedding table that holds every id
        self.num_tokens: int = max(vocab.values()) + 1
        self.unknown_id: int | None = vocab.get("[UNK]")

    @classmethod
    def from_file(cls, path: str | Path, front_end: FrontEnd = "letters") -> TextTokenizer:
        """Reads a `vocab.json` in the format of the tokenizers library.

        Args:
            path: the file.
            front_end: what one symbol of the vocabulary is.

        Raises:
            ModelFileError: when the file is missing, no vocabulary, or lacks the tokens that
                every text needs.
        """
        from tokenizers import Tokenizer

        file = Path(path)
        if not file.is_file():
            raise ModelFileError(f"{file.name} is missing; fetch or export the model again.")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ModelFileError(
                f"{file.name} is no tokenizer file ({str(error)[:120]}); fetch the model again."
            ) from error
        made = cls(tokenizer, front_end)
        if "[SPACE]" not in made._vocab or not made.languages:
            raise ModelFileError(
                f"{file.name} has no [SPACE] token or no language token such as [en]; "
                "it is not the vocabulary of an XTTS model."
            )
        return made

    def encode(self, text: str, language: str) -> list[int]:
        """Returns the ids of a text, language token first, without start and stop.

        Args:
            text: clean text, numbers in words.
            language: one of `languages`.

        Raises:
            InputError: on `language`, when the vocabulary has no token for it.
        """
        return self.encode_spelling(self.spell(text, language), language)

    def spell(self, text: str, language: str) -> Spelling:
        """Returns the text in symbols of the vocabulary only, and what had to be left out.

        Raises:
            InputError: on `language`, when there are no phonemes for it.
        """
        table = _KnownTable(self._known)
        if self._front_end == "phonemes":
            symbols = tuple(self._known_phonemes(text, language, table))
        else:
            letters = self._speller.spell(text, language).translate(table)
            symbols = tuple(_SPACES_RE.sub(" ", letters).strip())
        return Spelling(symbols, "".join(table.dropped))

    def encode_spelling(self, spelling: Spelling, language: str) -> list[int]:
        """Returns the ids of what `spell` returned.

        Raises:
            InputError: on `language`, when the vocabulary has no token for it.
        """
        if language not in self.languages:
            raise InputError(
                f"language {language!r} has no token in this model's vocabulary; "
                f"use one of: {', '.join(self.languages)}.",
                param="language",
                code="unsupported_language",
            )
        if self._front_end == "phonemes":
            names = ("[SPACE]" if symbol == " " else symbol for symbol in spelling.symbols)
            return [self._vocab[f"[{language}]"], *(self._vocab[name] for name in names)]
        marked = f"[{language}]{spelling.text}".replace(" ", "[SPACE]")
        ids: list[int] = self._tokenizer.encode(marked).ids
        return ids

    def _known_phonemes(self, text: str, language: str, table: _KnownTable) -> Iterator[str]:
        from app.text.phonemes import phoneme_words

        for index, word in enumerate(phoneme_words(text, language)):
            if index:
                yield " "
            for symbol in word:
                if symbol in self._vocab:
                    yield symbol
                else:
                    yield from symbol.translate(table)


class _KnownTable(dict[int, str]):
    """Maps each character to characters that the vocabulary knows; notes what has none."""

    def __init__(self, known: frozenset[str]) -> None:
        super().__init__()
        self._known = known
        self.dropped: list[str] = []

    def __missing__(self, code: int) -> str:
        char = chr(code)
        value = self[code] = char if char.isspace() or char in self._known else self._nearest(char)
        return value

    def _nearest(self, char: str) -> str:
        """Base letters first, then the nearest ASCII; nothing as the last resort."""
        from anyascii import anyascii

        if char == "¡":  # its twin at the end of the sentence says the same
            return ""
        decomposed = unicodedata.normalize("NFKD", char)
        for candidate in (decomposed, anyascii(char).lower(), anyascii(decomposed).lower()):
            kept = "".join(part for part in candidate if part in self._known and part != '"')
            if kept and any(part.isalnum() for part in kept) == char.isalnum():
                return kept
        if char.isalnum() or unicodedata.category(char) in {"Sm", "Sc"}:
            self.dropped.append(char)
        return ""
