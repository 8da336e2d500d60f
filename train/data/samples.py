"""What a data set says: clips with their texts, before any audio was opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: Suffixes that a file must have to be taken for audio where a folder is searched.
AUDIO_SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".mp4", ".webm", ".mka"),
    *(".aiff", ".aif", ".aifc", ".caf", ".au", ".w64", ".rf64", ".amr", ".wma"),
)


@dataclass(frozen=True)
class Sample:
    """One clip as the data set describes it.

    `name` is the audio's path as the data set writes it; `line` counts from 1 in `listed_in`.
    `speaker` and `language` are empty where the data set does not say.
    """

    name: str
    audio: Path
    text: str
    speaker: str = ""
    language: str = ""
    listed_in: str = ""
    line: int = 0


@dataclass(frozen=True)
class BadRow:
    """A line that describes no clip: where it is, what is wrong with it, what to do."""

    listed_in: str
    line: int
    fault: str
    remedy: str

    @property
    def place(self) -> str:
        """The file and line."""
        return f"{self.listed_in}:{self.line}"


@dataclass(frozen=True)
class DataSet:
    """A whole data set as read.

    `reason` says why it was taken for this format; `notes` what a person should know of the
    reading (an encoding that was guessed, files that were passed over).
    """

    root: Path
    format: str
    reason: str
    samples: tuple[Sample, ...]
    bad_rows: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()
