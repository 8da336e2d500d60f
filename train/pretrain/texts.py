"""Sentences and phrases for the synthetic speakers, from files that Debian packages bring.

Knows what a sentence fit to be spoken looks like. The texts themselves are not shipped; only
speech made from them trains the model.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path

from app.errors import SettingsError

_SENTENCE_END_RE = re.compile(r"(?<=[.!?])\s+")
_FIT_RE = re.compile(r"[A-Z][a-z]*(?:[ ,]+(?:[A-Z]?[a-z]+(?:'[a-z]+)?))+[.!?]")
_WORD_RE = re.compile(r"[a-z]{2,12}")


def read_sentences(globs: Iterable[str], *, min_chars: int, max_chars: int) -> list[str]:
    """Returns the distinct plain sentences of all files, sorted.

    Args:
        globs: absolute patterns of UTF-8 text files; `%` lines part entries (fortune files).
        min_chars: shortest sentence.
        max_chars: longest sentence.

    Raises:
        SettingsError: no file matches.
    """
    paths = sorted(path for pattern in globs for path in glob(pattern))  # noqa: PTH207 - absolute
    if not paths:
        raise SettingsError(
            f"no text matches {', '.join(globs)}; install the Debian package fortunes, or name "
            "other texts under data.text_globs."
        )
    found: set[str] = set()
    for path in paths:
        content = Path(path).read_text(encoding="utf-8", errors="ignore")
        for entry in content.split("\n%"):
            found.update(_fit_sentences(entry, min_chars, max_chars))
    return sorted(found)


def _fit_sentences(entry: str, min_chars: int, max_chars: int) -> Iterator[str]:
    body = entry.split("\n\t\t--")[0]
    for sentence in _SENTENCE_END_RE.split(" ".join(body.split())):
        if min_chars <= len(sentence) <= max_chars and _FIT_RE.fullmatch(sentence):
            yield sentence


def read_words(path: str) -> list[str]:
    """Returns the plain lower-case words of a word list, sorted.

    Raises:
        SettingsError: the file is missing.
    """
    file = Path(path)
    if not file.is_file():
        raise SettingsError(
            f"{path} is missing; install the Debian package wamerican, or set data.word_list."
        )
    words = file.read_text(encoding="utf-8").split()
    return sorted({word for word in words if _WORD_RE.fullmatch(word)})


def make_phrases(words: list[str], count: int, rng: random.Random) -> list[str]:
    """Returns `count` phrases of one to four words, each ending with a full stop."""
    phrases = (" ".join(rng.sample(words, rng.randint(1, 4))) for _ in range(count))
    return [f"{phrase.capitalize()}." for phrase in phrases]
