"""Text files of unknown origin: encodings, byte order marks and line ends. Knows no format."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from app.errors import SettingsError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Tried in this order where a file is no UTF-8; latin-1 reads anything.
_GUESSES = (("cp1252", "Windows-1252"), ("latin-1", "latin-1"))


@dataclass(frozen=True)
class TextFile:
    """The content of a file, and a sentence on its encoding where that was guessed."""

    text: str
    note: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines without their ends, whether those are LF, CRLF or CR.

        Other characters that `str.splitlines` breaks at may stand within a transcript.
        """
        text = self.text.replace("\r\n", "\n").replace("\r", "\n")
        return text.removesuffix("\n").split("\n") if text else []


def read_text_file(path: Path) -> TextFile:
    """Reads a text file in whatever encoding it is.

    Raises:
        SettingsError: it can't be read, or it holds binary data.
    """
    try:
        return decode_text(path.read_bytes(), path.name)
    except OSError as error:
        raise SettingsError(
            f"{path} can't be read ({error.strerror}); check its rights.", param="DATA"
        ) from error


def decode_text(content: bytes, name: str) -> TextFile:
    """Decodes the content of the file called `name`.

    Raises:
        SettingsError: it holds binary data.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return TextFile(content.decode(encoding, errors="replace"))
    if b"\0" in content[:4096]:
        raise SettingsError(
            f"{name} holds binary data where a table of text belongs; save it as UTF-8 text.",
            param="DATA",
        )
    try:
        return TextFile(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
    for encoding, called in _GUESSES:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return TextFile(
            text,
            f"{name} is not UTF-8 (line {line}) and was read as {called}; "
            "if letters look wrong in the report, save the file as UTF-8.",
        )
    raise AssertionError("latin-1 decodes any bytes")
