"""Any string a client may send -> one line of plain text that the later steps can read.

Knows Unicode; knows no language and no vocabulary. Numbers, symbols and markup stay as they are.
"""

from __future__ import annotations

import re
import unicodedata

from app.errors import InputError

#: Combining marks kept in a row: Vietnamese and pointed Arabic need up to three.
_MAX_MARKS = 4

#: Punctuation outside the vocabulary -> its plain twin (the XTTS vocabularies know these).
_PUNCTUATION = {
    **dict.fromkeys("“”„‟«»〝〞〟＂", '"'),
    **dict.fromkeys("‘’‚‛‹›`´ʼʻ＇′", "'"),
    **dict.fromkeys("‐‑⁃﹣", "-"),
    **dict.fromkeys("‒⸺", "–"),
    **dict.fromkeys("―⸻﹘", "—"),
    **dict.fromkeys("⋯…", "…"),
    **dict.fromkeys("•‣◦▪●", ","),
    "＄": "$",
    "￥": "¥",
    "￡": "£",
    "％": "%",
    "＆": "&",
    "＠": "@",
    "＋": "+",
    "＝": "=",
    "＃": "#",
    "‼": "!!",
    "⁇": "??",
    "⁈": "?!",
    "⁉": "!?",
    "．": ".",
    "｡": "。",
}

#: Symbols (category So, Sk) that a later step can say; all others of those categories go.
_SPOKEN_SYMBOLS = frozenset("°℃℉№^`")

#: Letters that draw nothing.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")

#: Blocks whose letters and digits are other drawings of common ones: letterlike and mathematical
#: alphabets, ligatures, Arabic presentation forms, half- and full-width forms.
_COMPATIBILITY = (
    (0x2100, 0x214F),
    (0xFB00, 0xFDFF),
    (0xFE70, 0xFEFE),
    (0xFF10, 0xFF19),
    (0xFF21, 0xFF3A),
    (0xFF41, 0xFF5A),
    (0xFF65, 0xFFDC),
    (0x1D400, 0x1D7FF),
    (0x1F100, 0x1F189),
)

_PARAGRAPH_RE = re.compile(r"[^\S\n]*\n(?:[^\S\n]*\n)+\s*")
_SPACES_RE = re.compile(r"\s+")
_REPEAT_RE = re.compile(r"([^\w\s])\1{3,}")
_UNENDED_RE = re.compile(r"\w\Z")


def clean_text(text: str) -> str:
    """Makes one clean line of any string; a paragraph before another gets a stop if it has none.

    Time is linear in the length of the text.

    Raises:
        InputError: on `input`, code `empty_text`, when no letter or digit is left.
    """
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2029", "\n\n")
    if not text.isascii():
        text = _limit_marks(text)
        text = unicodedata.normalize("NFC", text)
    text = text.translate(_CharTable())
    text = _REPEAT_RE.sub(r"\1\1\1", text)
    *paragraphs, last = _PARAGRAPH_RE.split(text.strip())
    text = " ".join([*(_end_paragraph(part) for part in paragraphs), last])
    text = _SPACES_RE.sub(" ", text).strip()
    if not any(char.isalnum() for char in text):
        raise InputError(
            "input has nothing to speak: it needs at least one letter or digit.",
            param="input",
            code="empty_text",
        )
    return text


class _CharTable(dict[int, str]):
    """What each character becomes; filled as characters are met, so each is judged once."""

    def __missing__(self, code: int) -> str:
        value = self[code] = _clean_char(chr(code))
        return value


def _clean_char(char: str) -> str:
    if char in _PUNCTUATION:
        return _PUNCTUATION[char]
    if char in _BLANK_LETTERS:
        return ""
    category = unicodedata.category(char)
    if category[0] == "Z" or char in "\n\t\v\f\x85\x1c\x1d\x1e\x1f":
        return "\n" if char == "\n" else " "
    if category[0] == "C":
        return ""
    if category in {"So", "Sk"} and char not in _SPOKEN_SYMBOLS:
        return " "
    if category == "Me" or "\ufe00" <= char <= "\ufe0f" or char >= "\U000e0100":
        return ""  # enclosing marks and variation selectors: the rest of an emoji
    if category[0] in "LN" and any(low <= ord(char) <= high for low, high in _COMPATIBILITY):
        return unicodedata.normalize("NFKC", char)
    return char


def _limit_marks(text: str) -> str:
    """Caps runs of combining marks, which normalisation sorts in quadratic time."""
    kept: list[str] = []
    num_marks = 0
    for char in text:
        num_marks = num_marks + 1 if unicodedata.combining(char) else 0
        if num_marks <= _MAX_MARKS:
            kept.append(char)
    return "".join(kept)


def _end_paragraph(part: str) -> str:
    """Gives a title or list item the stop that its line break stood for."""
    part = part.rstrip()
    if not _UNENDED_RE.search(part):
        return part
    return part + ("。" if "\u3040" <= part[-1] <= "\u9fff" else ".")
