"""The three kinds of table that describe clips, read from their lines.

Looks in folders for the audio that a line names; opens none of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.errors import SettingsError
from train.data.samples import AUDIO_SUFFIXES, BadRow, Sample

_MORE_COLUMNS = "the text holds a |, or two lines ran together; take the | out"
#: Folders, seen from the table's, where audio is looked for.
_AUDIO_FOLDERS = ("", "wavs", "audio", "clips")


@dataclass
class Table:
    """What one file of a data set says; `reason` tells what its format was known by."""

    format: str
    reason: str
    samples: list[Sample] = field(default_factory=list)
    bad_rows: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def parse_ljspeech(path: Path, lines: list[str]) -> Table:
    """Reads `id|text[|normalised]` lines; a normalised text that is not empty is taken.

    The audio is `wavs/<id>` with any suffix of audio; `<id>` may have the suffix itself.
    """
    table = Table("LJSpeech", "its lines are `id|text`")
    finder = AudioFinder(path.parent, ("wavs", *_AUDIO_FOLDERS))
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if number == 1 and cells[0].lower() in ("id", "file", "file_name", "filename", "wav"):
            table.notes.append(f"the first line of {path.name} was taken for a header: {line!r}")
        elif len(cells) > 3:
            fault = f"it has {len(cells)} columns, `id|text` or `id|text|normalised` was expected"
            table.bad_rows.append(BadRow(path.name, number, fault, _MORE_COLUMNS))
        elif len(cells) < 2 or not cells[0]:
            fault = "it has no text column" if len(cells) < 2 else "its id is empty"
            remedy = "write it as `id|text`, or remove the line"
            table.bad_rows.append(BadRow(path.name, number, fault, remedy))
        else:
            text = cells[2] if len(cells) == 3 and cells[2] else cells[1]
            audio = finder.find(cells[0])
            table.samples.append(
                Sample(cells[0], audio, text, listed_in=path.name, line=number),
            )
    return table


def parse_coqui(path: Path, lines: list[str]) -> Table:
    """Reads a table whose header names `audio_file`, `text` and perhaps `speaker_name`, `language`.

    Raises:
        SettingsError: the header lacks `text`.
    """
    header_at = next(number for number, line in enumerate(lines) if line.strip())
    header = [cell.strip().lower() for cell in lines[header_at].split("|")]
    if "text" not in header:
        raise SettingsError(
            f"{path} has the columns {', '.join(header)} and lacks `text`: "
            "begin it with `audio_file|text|speaker_name`.",
            param="DATA",
        )
    table = Table("coqui", f"its header is `{'|'.join(header)}`")
    finder = AudioFinder(path.parent)
    for number, line in enumerate(lines[header_at + 1 :], start=header_at + 2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != len(header):
            fault = f"it has {len(cells)} columns and the header {len(header)}"
            remedy = _MORE_COLUMNS if len(cells) > len(header) else "fill in what is missing"
            table.bad_rows.append(BadRow(path.name, number, fault, remedy))
            continue
        row = dict(zip(header, cells, strict=True))
        speaker = row.get("speaker_name", "")
        table.samples.append(_sample(finder, path, number, row, row["audio_file"], speaker))
    return table


def parse_json_lines(path: Path, lines: list[str]) -> Table:
    """Reads objects with `audio` and `text`, perhaps `speaker` and `language`, one a line."""
    table = Table("JSON lines", "its lines are JSON objects")
    finder = AudioFinder(path.parent)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row, fault = _json_row(line)
        if fault:
            remedy = 'write it as {"audio": "...", "text": "..."}'
            table.bad_rows.append(BadRow(path.name, number, fault, remedy))
        else:
            speaker = str(row.get("speaker") or "")
            table.samples.append(_sample(finder, path, number, row, row["audio"], speaker))
    return table


def _json_row(line: str) -> tuple[dict[str, Any], str]:
    """Returns the object of a line, or what is wrong with it."""
    try:
        row = json.loads(line)
    except ValueError as error:
        return {}, f"it is no JSON ({error})"
    if not isinstance(row, dict):
        return {}, "it is no JSON object"
    wrong = [key for key in ("audio", "text") if not isinstance(row.get(key), str)]
    if wrong:
        return {}, f"{' and '.join(wrong)} must be there as a string"
    return row, "" if row["audio"] else "its audio is empty"


def _sample(
    finder: AudioFinder, path: Path, line: int, row: Mapping[str, Any], audio: str, speaker: str
) -> Sample:
    return Sample(
        name=audio,
        audio=finder.find(audio),
        text=str(row["text"]),
        speaker=speaker,
        language=str(row.get("language") or ""),
        listed_in=path.name,
        line=line,
    )


class AudioFinder:
    """Finds the files that a table's names mean, reading each folder once.

    Args:
        root: the table's folder.
        folders: below `root`, where audio may lie; what is missing is said to belong in the first.
    """

    def __init__(self, root: Path, folders: tuple[str, ...] = _AUDIO_FOLDERS) -> None:
        self._root = root
        self._folders = folders
        self._by_stem: dict[Path, dict[str, Path]] = {}

    def find(self, name: str) -> Path:
        """Returns the file that `name` means, or the path where it should have been.

        Names may come from Windows, may leave the suffix out, and may begin with the folder's own
        name.
        """
        written = Path(name.replace("\\", "/"))
        has_suffix = written.suffix.lower() in AUDIO_SUFFIXES
        for folder in self._folders:
            base = self._root / folder / written
            found = base if has_suffix else self._files_of(base.parent).get(base.name)
            if found is not None and found.is_file():
                return found
        inner = self._root.joinpath(*written.parts[1:])
        if len(written.parts) > 1 and inner.is_file():
            return inner
        return self._root / self._folders[0] / (f"{written}" if has_suffix else f"{written}.wav")

    def _files_of(self, folder: Path) -> dict[str, Path]:
        """Returns a folder's audio by its name without suffix; the list's first suffix wins."""
        if folder not in self._by_stem:
            order = {suffix: number for number, suffix in enumerate(AUDIO_SUFFIXES)}
            present = folder.iterdir() if folder.is_dir() else ()
            files = [p for p in present if p.suffix.lower() in order]
            files.sort(key=lambda p: (-order[p.suffix.lower()], p.name))
            self._by_stem[folder] = {path.stem: path for path in files}
        return self._by_stem[folder]
