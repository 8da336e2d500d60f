"""Finds out what kind of data set a folder or file is, by its content, and reads it.

Four kinds: LJSpeech tables, coqui tables, JSON lines, and audio beside same-named `.txt` files.
Opens no audio: whether a clip is there and can be used is for `checks` to say.
"""

from __future__ import annotations

from pathlib import Path

from app.errors import SettingsError
from train.data.samples import AUDIO_SUFFIXES, BadRow, DataSet, Sample
from train.data.tables import Table, parse_coqui, parse_json_lines, parse_ljspeech
from train.data.text_files import read_text_file

#: Looked for in a folder, in this order; the files of the first line that has any are read.
_TABLE_NAMES = (
    ("metadata.csv",),
    ("metadata.jsonl",),
    ("metadata_train.csv", "metadata_eval.csv"),
    ("metadata.txt",),
    ("manifest.jsonl",),
)
_TABLE_SUFFIXES = (".csv", ".jsonl")
_FORMATS = (
    "a metadata.csv of `id|text` lines beside a folder wavs (LJSpeech), a table that begins with "
    "`audio_file|text|speaker_name` (coqui), lines of JSON with `audio` and `text`, or audio "
    "files with same-named .txt files"
)


def read_data_set(path: Path) -> DataSet:
    """Reads the data set in a folder, or the one that a table describes.

    Raises:
        SettingsError: there is nothing, nothing of a known kind, or a table that lacks columns.
    """
    if path.is_file():
        return _read_tables(path.parent, [path], f"DATA names {path.name}")
    if not path.is_dir():
        raise SettingsError(
            f"DATA={path} does not exist; name the folder of your clips.", param="DATA"
        )
    tables, why = _find_tables(path)
    return _read_tables(path, tables, why) if tables else _read_pairs(path)


def _find_tables(folder: Path) -> tuple[list[Path], str]:
    for names in _TABLE_NAMES:
        found = [folder / name for name in names if (folder / name).is_file()]
        if found:
            return found, f"the folder has {' and '.join(p.name for p in found)}"
    others = sorted(p for p in folder.iterdir() if p.suffix.lower() in _TABLE_SUFFIXES)
    if len(others) > 1:
        raise SettingsError(
            f"{folder} has several tables ({', '.join(p.name for p in others[:5])}) and none is "
            "called metadata.csv; name the one to take: DATA=" + str(others[0]) + ".",
            param="DATA",
        )
    return others, f"{others[0].name} is the folder's one table" if others else ""


def _read_tables(root: Path, paths: list[Path], why: str) -> DataSet:
    samples: list[Sample] = []
    bad_rows: list[BadRow] = []
    notes: list[str] = []
    kinds: dict[str, str] = {}
    for path in paths:
        file = read_text_file(path)
        if file.note:
            notes.append(file.note)
        table = _parse(path, file.lines)
        kinds[table.format] = table.reason
        samples += table.samples
        bad_rows += table.bad_rows
        notes += table.notes
    if len(kinds) > 1:
        raise SettingsError(
            f"{' and '.join(p.name for p in paths)} are of different kinds "
            f"({', '.join(kinds)}); write both the same way.",
            param="DATA",
        )
    ((kind, reason),) = kinds.items()
    return DataSet(
        root, kind, f"{why}, and {reason}", tuple(samples), tuple(bad_rows), tuple(notes)
    )


def _parse(path: Path, lines: list[str]) -> Table:
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise SettingsError(f"{path} is empty; {_FORMATS} are read.", param="DATA")
    if first.lstrip().startswith("{"):
        return parse_json_lines(path, lines)
    columns = [cell.strip().lower() for cell in first.split("|")]
    if "audio_file" in columns:
        return parse_coqui(path, lines)
    if len(columns) > 1:
        return parse_ljspeech(path, lines)
    separator = next((sign for sign in ("\t", ",", ";") if sign in first), "")
    found = f"its first line has columns split by {separator!r}" if separator else "it has no |"
    raise SettingsError(
        f"{path} is no table that is read here: {found}, where | belongs between audio and text. "
        f"Known are {_FORMATS}.",
        param="DATA",
    )


def _read_pairs(folder: Path) -> DataSet:
    audio = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()
    )
    if not audio:
        raise SettingsError(
            f"{folder} has no table and no audio; give it {_FORMATS}.", param="DATA"
        )
    samples: list[Sample] = []
    bad_rows: list[BadRow] = []
    notes: list[str] = []
    for path in audio:
        name, text_path = path.relative_to(folder).as_posix(), path.with_suffix(".txt")
        if not text_path.is_file():
            remedy = f"write what is said into {text_path.name} beside it, or remove the audio"
            bad_rows.append(BadRow(name, 0, "there is no text for this audio", remedy))
            continue
        file = read_text_file(text_path)
        notes += [file.note] if file.note else []
        text = " ".join(line.strip() for line in file.lines if line.strip())
        samples.append(Sample(name, path, text, listed_in=text_path.name))
    if not samples:
        raise SettingsError(
            f"{folder} has {len(audio)} audio files and no texts; give it {_FORMATS}.",
            param="DATA",
        )
    reason = f"the folder has no table, and {len(samples)} audio files with same-named .txt files"
    return DataSet(
        folder, "audio and .txt files", reason, tuple(samples), tuple(bad_rows), tuple(notes)
    )
