"""Data sets as people have them: four kinds, found by content; faults named with their line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from clip_folders import KATHLEEN, LONG_CLIP

from app.errors import SettingsError
from train.data.readers import read_data_set


def table(folder: Path, text: str | bytes, name: str = "metadata.csv") -> Path:
    content = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(content)
    return folder


def put_clip(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(LONG_CLIP, path)


def test_ljspeech_as_it_is_published() -> None:
    data = read_data_set(KATHLEEN)
    assert data.format == "LJSpeech"
    assert "metadata.csv" in data.reason
    assert len(data.samples) == 12
    assert all(sample.audio.is_file() for sample in data.samples)
    first = data.samples[0]
    assert (first.text, first.line) == ("How much was it.", 1)


def test_ljspeech_takes_the_normalised_text_and_any_suffix(tmp_path: Path) -> None:
    put_clip(tmp_path / "wavs" / "a.flac")
    put_clip(tmp_path / "b.wav")
    data = read_data_set(table(tmp_path, "a|Dr. No|Doctor No\nb.wav|two|\n"))
    assert [s.text for s in data.samples] == ["Doctor No", "two"]
    assert [s.audio for s in data.samples] == [tmp_path / "wavs" / "a.flac", tmp_path / "b.wav"]


def test_rows_with_too_few_or_many_columns_are_named_by_line(tmp_path: Path) -> None:
    data = read_data_set(table(tmp_path, "a|one\n\nb\nc|x|y|z|w\n|text\nd|four\n"))
    assert [s.name for s in data.samples] == ["a", "d"]
    assert [(row.line, row.place) for row in data.bad_rows] == [
        (3, "metadata.csv:3"),
        (4, "metadata.csv:4"),
        (5, "metadata.csv:5"),
    ]
    assert "no text column" in data.bad_rows[0].fault
    assert "5 columns" in data.bad_rows[1].fault


def test_coqui_columns_in_any_order(tmp_path: Path) -> None:
    put_clip(tmp_path / "wavs" / "a.wav")
    rows = "text|audio_file|speaker_name|language\nHello.|wavs/a.wav|ada|en\nShort row|b.wav\n"
    data = read_data_set(table(tmp_path, rows, "metadata_train.csv"))
    (sample,) = data.samples
    assert data.format == "coqui"
    assert (sample.text, sample.speaker, sample.language) == ("Hello.", "ada", "en")
    assert sample.audio == tmp_path / "wavs" / "a.wav"
    assert data.bad_rows[0].line == 3


def test_coqui_train_and_eval_tables_are_read_together(tmp_path: Path) -> None:
    header = "audio_file|text|speaker_name\n"
    table(tmp_path, header + "a.wav|One.|ada\n", "metadata_train.csv")
    data = read_data_set(table(tmp_path, header + "b.wav|Two.|ada\n", "metadata_eval.csv"))
    assert [s.text for s in data.samples] == ["One.", "Two."]


def test_coqui_without_text_says_which_column_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lacks `text`"):
        read_data_set(table(tmp_path, "audio_file|speaker_name\na.wav|ada\n"))


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"audio": "clips\\a.wav", "text": "One | two", "speaker": "ada", "language": "de"},
        {"audio": "b.wav"},
        {"audio": 3, "text": "x"},
    ]
    put_clip(tmp_path / "clips" / "a.wav")
    lines = [json.dumps(row) for row in rows] + ["{broken", "[1]"]
    data = read_data_set(table(tmp_path, "\n".join(lines), "metadata.jsonl"))
    (sample,) = data.samples
    assert (sample.text, sample.speaker, sample.language) == ("One | two", "ada", "de")
    assert sample.audio == tmp_path / "clips" / "a.wav"
    assert [row.line for row in data.bad_rows] == [2, 3, 4, 5]
    assert "text must be there" in data.bad_rows[0].fault


def test_audio_with_same_named_texts(tmp_path: Path) -> None:
    for name in ("x/a.flac", "x/b.FLAC"):
        put_clip(tmp_path / name)
    (tmp_path / "x" / "a.txt").write_bytes(b"\xef\xbb\xbfHello\r\nthere.\r\n")
    data = read_data_set(tmp_path)
    (sample,) = data.samples
    assert (sample.name, sample.text) == ("x/a.flac", "Hello there.")
    assert data.bad_rows[0].listed_in == "x/b.FLAC"
    assert "b.txt" in data.bad_rows[0].remedy


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("a|Grüße – schön\r\nb|zwei\r\n".encode(), ""),
        (b"\xef\xbb\xbf" + "a|Grüße – schön\rb|zwei".encode(), ""),
        ("a|Grüße – schön\nb|zwei".encode("utf-16"), ""),
        ("a|Grüße – schön\nb|zwei\n".encode("cp1252"), "Windows-1252"),
        (
            "a|Gr\u00fc\u00dfe \u2013 sch\u00f6n\nb|zwei\n".replace("–", "\x81").encode("latin-1"),
            "latin-1",
        ),
    ],
    ids=["utf-8 crlf", "utf-8 bom cr", "utf-16", "cp1252", "latin-1"],
)
def test_encodings_and_line_ends(tmp_path: Path, content: bytes, note: str) -> None:
    data = read_data_set(table(tmp_path, content))
    assert data.samples[0].text.startswith("Grüße")
    assert data.samples[0].text.endswith("schön")
    assert data.samples[1].text == "zwei"
    assert len(data.notes) == bool(note)
    assert all(note in n and "line 1" in n for n in data.notes)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,one\nb,two\n", "','"),
        ("", "is empty"),
        ("just some words\n", r"it has no \|"),
        (b"a|b\0\0\0", "binary data"),
    ],
)
def test_what_is_no_table_is_refused_in_words(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        read_data_set(table(tmp_path, content))


def test_folders_without_data_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        read_data_set(tmp_path / "absent")
    with pytest.raises(SettingsError, match="no table and no audio"):
        read_data_set(tmp_path)
    put_clip(tmp_path / "a.wav")
    with pytest.raises(SettingsError, match="1 audio files and no texts"):
        read_data_set(tmp_path)


def test_several_tables_must_be_chosen_from(tmp_path: Path) -> None:
    table(tmp_path, "a|one\n", "one.csv")
    table(tmp_path, "a|two\n", "two.csv")
    with pytest.raises(SettingsError, match=r"one\.csv, two\.csv"):
        read_data_set(tmp_path)
    assert read_data_set(tmp_path / "two.csv").samples[0].text == "two"


def test_names_may_repeat_the_folder(tmp_path: Path) -> None:
    put_clip(tmp_path / "wavs" / "a.wav")
    rows = "audio_file|text\nmy_voice/wavs/a.wav|Hello.\n"
    assert read_data_set(table(tmp_path, rows)).samples[0].audio == tmp_path / "wavs" / "a.wav"
