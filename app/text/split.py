"""Cuts a text into segments that a model can say in one breath.

Knows where sentences and clauses end and what must stay in one piece; knows neither numbers nor
tokens: `fits` says whether a piece is short enough. Segments are slices of the text, so no word
can get lost. Time is linear in the length of the text, but for a logarithm.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from app.text.abbreviations import ends_in_abbreviation

#: Languages that write an ordinal as digits and a stop: "am 25. Dezember".
_DOT_ORDINAL_LANGUAGES = frozenset({"de", "cs", "hu", "pl", "tr"})

_CLOSERS = r"[\"'”’»)\]」』）》]*"
#: A stop, its closing quotes, and the space after it; scripts without spaces need none.
_STOP_RE = re.compile(rf"(?:[.!?…؟।॥]+{_CLOSERS}(?:\s+|\Z))|(?:[。！？]+{_CLOSERS}\s*)")
_CLAUSE_RE = re.compile(r"[,;:،؛)\]]+[\"'”’»]*\s+|\s[–—-]+\s+|—|[，、；：]\s*")
_SPACE_RE = re.compile(r"\s+")
_SYMBOL_RE = re.compile(r"[^\w\s]+")
_WORD_RE = re.compile(r"\w+")

#: Digits that belong to what comes after the space: "10 000", "5 km", "20 %", "R$ 5", "nº 5".
_UNIT = (
    r"(?:[%‰°℃℉€$£¥]|R\$|[ap]\.?m\b|(?:[kcmµ]?m|[kmµ]?g|[mc]?l|[kKMGT]i?[Bb]|[kM]?W|kWh|[kMG]?Hz|h|min|s|ms)"
    r"[²³]?(?:/\w+)?(?!\w))"
)
_GLUED_RE = re.compile(
    rf"(?<=\d)\s+(?=\d|{_UNIT})|(?:(?<=[€$£¥№#+])|(?<=\b[Nn][ºo°]))\s+(?=\d)", re.IGNORECASE
)
#: Room for the space around a piece.
_ROOM = 8
#: Characters that show letters of a script without spaces between words.
_UNSPACED_RE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def split_text(text: str, language: str, max_chars: int, fits: Callable[[str], bool]) -> list[str]:
    """Splits at sentence ends, else clause ends, else spaces, else anywhere.

    Short sentences share a segment, a long one is cut near its middle, and a remainder of one or
    two words joins its neighbour, because XTTS makes up speech for very short segments.

    Args:
        text: clean text of one language.
        language: an XTTS code.
        max_chars: most characters of a segment.
        fits: whether a piece of at most `max_chars` characters is short enough for the model as
            well; a single character must fit.

    Returns:
        Segments without space around them, each one fitting, in order. All words of the text are
        in them.
    """
    return _Splitter(text, language, max_chars, fits).split()


def split_sentences(text: str, language: str) -> list[str]:
    """Splits at sentence ends only."""
    ends = [*_sentence_ends(text, language), len(text)]
    starts = [0, *ends]
    sentences = (text[start:end].strip() for start, end in zip(starts, ends, strict=False))
    return [sentence for sentence in sentences if sentence]


def _sentence_ends(text: str, language: str) -> Iterator[int]:
    """Offsets after each stop that surely ends a sentence, and the space after it."""
    for match in _STOP_RE.finditer(text):
        if _is_sentence_end(text, match, language, strong=True):
            yield match.end()


def _is_sentence_end(text: str, match: re.Match[str], language: str, *, strong: bool) -> bool:
    """Whether a stop inside the text ends a sentence: surely (strong), or perhaps."""
    end = match.end()
    if end >= len(text) or (strong and _goes_on(match[0], text[end])):
        return False
    return not _is_inner_stop(text, match, language)


def _goes_on(stop: str, after: str) -> bool:
    """Whether the sentence goes on after a stop, as in '"Stop!" he said'."""
    if stop[0] in "。！？":
        return stop[-1] in "」』" and "\u3040" <= after <= "\u309f"
    return after.islower()


def _is_inner_stop(text: str, match: re.Match[str], language: str) -> bool:
    """Whether the stop is part of an abbreviation, an initial or an ordinal."""
    if match[0].rstrip() != ".":
        return False
    token = text[max(0, match.start() - 24) : match.start() + 1].split()[-1]
    if ends_in_abbreviation(token, language):
        return True
    return language in _DOT_ORDINAL_LANGUAGES and bool(re.fullmatch(r"\W*\d{1,2}\.", token))


class _Splitter:
    """One call of `split_text`; spans are offsets into the text."""

    def __init__(
        self, text: str, language: str, max_chars: int, fits: Callable[[str], bool]
    ) -> None:
        self._text = text
        self._language = language
        self._max_chars = max(1, max_chars)
        self._fits = fits

    def split(self) -> list[str]:
        ends = [*_sentence_ends(self._text, self._language), len(self._text)]
        cuts = self._balance(self._pack(0, ends))
        pieces = (self._piece(a, b) for a, b in pairwise(cuts))
        return [piece for piece in pieces if piece]

    def _piece(self, start: int, end: int) -> str:
        return self._text[start:end].strip()

    def _span_fits(self, start: int, end: int) -> bool:
        if end - start > self._max_chars + _ROOM:
            return False
        piece = self._piece(start, end)
        return len(piece) <= self._max_chars and (len(piece) <= 1 or self._fits(piece))

    def _cut_long(self, start: int, end: int) -> Iterator[int]:
        """Halves a span until each part fits; yields the end of each part."""
        todo = [(start, end)]
        while todo:
            a, b = todo.pop()
            if b - a <= 1 or self._span_fits(a, b):
                yield b
            else:
                middle = self._find_break(a, b)
                todo += [(middle, b), (a, middle)]

    def _find_break(self, start: int, end: int) -> int:
        """The best place to cut a span in two: near the middle, at the strongest boundary."""
        middle = (start + end) // 2
        near = min((end - start) // 4, self._max_chars // 2)
        far = min((end - start) // 2, 2 * self._max_chars)
        searches = (
            (self._weak_stops, near),
            (self._clauses, near),
            (self._spaces, near),
            (self._spaces, far),
            (self._symbols, far),
        )
        for find, reach in searches:
            low, high = max(start + 1, middle - reach), min(end - 1, middle + reach)
            found = next(find(low, middle, high), None)
            if found is not None:
                return found
        return self._grapheme_start(middle, start, end)

    # Each of these yields offsets to cut at within [low, high], the nearest to the middle first.

    def _strong_stops(self, low: int, middle: int, high: int) -> Iterator[int]:
        return self._stops(low, middle, high, strong=True)

    def _weak_stops(self, low: int, middle: int, high: int) -> Iterator[int]:
        return self._stops(low, middle, high, strong=False)

    def _stops(self, low: int, middle: int, high: int, *, strong: bool) -> Iterator[int]:
        window, base = self._window(low, high)
        stops = {base + match.end(): match for match in _STOP_RE.finditer(window)}
        for end in _by_distance(stops, low, middle, high):
            if _is_sentence_end(window, stops[end], self._language, strong=strong):
                yield end

    def _clauses(self, low: int, middle: int, high: int) -> Iterator[int]:
        window, base = self._window(low, high)
        ends = (base + match.end() for match in _CLAUSE_RE.finditer(window))
        yield from _by_distance(ends, low, middle, high)

    def _spaces(self, low: int, middle: int, high: int) -> Iterator[int]:
        window, base = self._window(low, high)
        ends = (base + match.end() for match in _SPACE_RE.finditer(window))
        for end in _by_distance(ends, low, middle, high):
            token = window[max(0, end - base - 24) : end - base].split()[-1:]
            glued = _GLUED_RE.match(window, end - base - 1)
            if not glued and not (token and ends_in_abbreviation(token[0], self._language)):
                yield end

    def _symbols(self, low: int, middle: int, high: int) -> Iterator[int]:
        ends = (match.end() for match in _SYMBOL_RE.finditer(self._text, low, high))
        for end in _by_distance(ends, low, middle, high):
            if not (self._text[end - 2 : end - 1].isdigit() and self._text[end].isdigit()):
                yield end

    def _window(self, low: int, high: int) -> tuple[str, int]:
        """The text around a range, with context so that marks at its rim are judged right."""
        base = max(0, low - 32)
        return self._text[base : high + 32], base

    def _grapheme_start(self, middle: int, start: int, end: int) -> int:
        """The next offset that does not part a letter from its marks."""
        for offset in range(middle, min(end, middle + 16)):
            if offset > start and not unicodedata.category(self._text[offset]).startswith("M"):
                return offset
        return middle

    def _pack(self, start: int, ends: list[int]) -> list[int]:
        """Joins parts as long as they fit together, cuts those that do not fit alone.

        Args:
            start: where the first part begins.
            ends: where each part ends.

        Returns:
            `start`, and the end of each segment.
        """
        cuts = [start]
        index = 0
        while index < len(ends):
            num_joined = self._count_fitting(cuts[-1], ends, index)
            if num_joined:
                index += num_joined
                cuts.append(ends[index - 1])
            else:
                parts = list(self._cut_long(cuts[-1], ends[index]))
                # the last part stays open: what follows may fit beside it
                cuts += self._pack(cuts[-1], parts)[1:-1] if len(parts) > 1 else []
                if len(parts) == 1:
                    cuts.append(ends[index])
                    index += 1
        return cuts

    def _count_fitting(self, start: int, ends: list[int], index: int) -> int:
        """How many parts from `index` on fit into one segment."""
        low = index - 1  # parts up to `low` fit, up to `high` do not
        high = bisect_right(ends, start + self._max_chars + _ROOM, lo=index)
        if high > index and self._span_fits(start, ends[high - 1]):
            return high - index
        while high - low > 1:
            middle = (low + high) // 2
            if self._span_fits(start, ends[middle]):
                low = middle
            else:
                high = middle
        return low - index + 1

    def _balance(self, cuts: list[int]) -> list[int]:
        """Evens out a short last segment, and gives a fragment a part of its neighbour."""
        kept = cuts[:1]
        for index in range(1, len(cuts)):
            kept.append(cuts[index])
            if len(kept) < 3:
                continue
            first, middle, last = kept[-3:]
            is_last = index == len(cuts) - 1
            if not (self._is_fragment(first, middle) or self._is_fragment(middle, last)) and not (
                is_last and 3 * (last - middle) < self._max_chars
            ):
                continue
            kept[-3:] = self._even_out(first, middle, last)
        return kept

    def _even_out(self, first: int, middle: int, last: int) -> list[int]:
        if self._span_fits(first, last):
            return [first, last]
        fragment = self._is_fragment(first, middle) or self._is_fragment(middle, last)
        finders = [self._strong_stops]
        if fragment:
            finders += [self._weak_stops, self._clauses, self._spaces]
        middle_wanted = (first + last) // 2
        reach = (last - first) // 4
        for find in finders:
            low, high = middle_wanted - reach, middle_wanted + reach
            cut = next(find(low, middle_wanted, high), None)
            if cut is not None and self._span_fits(first, cut) and self._span_fits(cut, last):
                return [first, cut, last]
        return [first, middle, last]

    def _is_fragment(self, start: int, end: int) -> bool:
        """Whether a span has at most two words (or four letters of a script without spaces)."""
        piece = self._text[start : min(end, start + 64)]
        if _UNSPACED_RE.search(piece):
            return sum(char.isalnum() for char in piece) <= 4
        return end - start <= 64 and len(_WORD_RE.findall(piece)) <= 2


def _by_distance(offsets: Iterable[int], low: int, middle: int, high: int) -> list[int]:
    inside = [offset for offset in offsets if low <= offset <= high]
    return sorted(inside, key=lambda offset: abs(offset - middle))
