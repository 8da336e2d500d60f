"""Word and character error rates between what was to be said and what was heard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NOT_SPOKEN_RE = re.compile(r"[^\w' ]+|_")


@dataclass(frozen=True)
class ErrorCount:
    """Edits needed and units there were; sums of several sentences add up."""

    edits: int
    units: int

    @property
    def rate(self) -> float:
        """Edits per unit; 0 where there were no units."""
        return self.edits / self.units if self.units else 0.0

    def __add__(self, other: ErrorCount) -> ErrorCount:
        return ErrorCount(self.edits + other.edits, self.units + other.units)


def plain_words(text: str) -> list[str]:
    """Returns the lower-case words of a text in any script, punctuation left out."""
    return _NOT_SPOKEN_RE.sub(" ", text.lower().replace("’", "'").replace("-", " ")).split()


def word_errors(wanted: str, heard: str) -> ErrorCount:
    """Counts the word edits from one text to the other."""
    words = plain_words(wanted)
    return ErrorCount(edit_distance(words, plain_words(heard)), len(words))


def character_errors(wanted: str, heard: str) -> ErrorCount:
    """Counts the character edits, spaces included."""
    characters = " ".join(plain_words(wanted))
    return ErrorCount(edit_distance(characters, " ".join(plain_words(heard))), len(characters))


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns the fewest insertions, deletions and replacements (Levenshtein)."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        above = row
        row = [i]
        for j, b in enumerate(second, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]
