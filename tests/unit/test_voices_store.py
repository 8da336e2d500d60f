"""Uploaded voices: whole or not at all, the same for every process, and never a way out."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import threading
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from app.audio.clip import Clip
from app.audio.decode import decode_clip
from app.errors import AudioVoiceError, ConflictError, InputError, ModelFileError, NotFoundError
from app.voices import folder as folders
from app.voices.names import check_voice_name, is_voice_id, voice_id_of
from app.voices.record import VoiceRecord
from app.voices.store import VoiceStore

CLIPS = Path(__file__).resolve().parents[1] / "data" / "clips"
CONSENT = "Kathleen agreed in writing, 2026-03-01."


def short_clip() -> Clip:
    at = np.arange(2400) / 24_000
    return Clip((0.3 * np.sin(2 * np.pi * 220 * at)).astype(np.float32), 24_000)


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    return VoiceStore(tmp_path / "voices", max_voices=50)


def add(store: VoiceStore, name: str) -> VoiceRecord:
    return store.add(name, short_clip(), consent=CONSENT)


def test_a_voice_is_kept_as_it_was_given(store: VoiceStore) -> None:
    data = (CLIPS / "arctic_a0329_1592709356.flac").read_bytes()
    clip = decode_clip(data, max_s=30, min_s=1)
    before = time.time()
    record = store.add(
        "Kathleen", clip, consent=f" {CONSENT}\n", language="en", ref_text="Ah, indeed."
    )
    assert is_voice_id(record.id)
    assert (record.name, record.language, record.ref_text) == ("Kathleen", "en", "Ah, indeed.")
    assert record.consent == f" {CONSENT}\n"
    assert record.duration_s == clip.duration_s
    assert before <= record.created_at <= time.time()
    kept = store.read_clip("Kathleen")
    assert kept.sample_rate == clip.sample_rate
    assert np.array_equal(kept.samples, clip.samples)


def test_what_lies_on_disk(store: VoiceStore, tmp_path: Path) -> None:
    record = add(store, "nova")
    root = tmp_path / "voices"
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    assert files == [".lock", f"{record.id}/clips/0.flac", f"{record.id}/voice.json"]
    data = json.loads((root / record.id / "voice.json").read_text(encoding="utf-8"))
    assert data["consent"] == CONSENT
    assert data["clips"][0]["sha256"] == record.clips[0].sha256 == record.content_hash


def test_found_by_any_spelling_of_its_name_and_by_its_id(store: VoiceStore) -> None:
    record = add(store, unicodedata.normalize("NFD", "Zoë Müller"))
    assert record.name == unicodedata.normalize("NFC", "Zoë Müller")
    spellings = ["zoë müller", "ZOË MÜLLER", unicodedata.normalize("NFD", "Zoë Müller"), record.id]
    for spelling in spellings:
        assert store.get(spelling) == record
        assert store.read_clip(spelling).duration_s == pytest.approx(0.1)


@pytest.mark.parametrize("second", ["nova", "NOVA", " Nova "])
def test_a_name_is_taken_once(store: VoiceStore, second: str) -> None:
    first = add(store, "Nova")
    with pytest.raises(ConflictError) as caught:
        add(store, second)
    assert caught.value.param == "name"
    assert store.list() == [first]


def test_no_more_than_max_voices(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path, max_voices=2)
    add(store, "one")
    add(store, "two")
    with pytest.raises(ConflictError, match="MAX_VOICES") as caught:
        add(store, "three")
    assert caught.value.code == "too_many_voices"
    store.delete("one")
    add(store, "three")


def test_deleting_leaves_nothing(store: VoiceStore, tmp_path: Path) -> None:
    record = add(store, "gone")
    store.delete("Gone")
    assert store.list() == []
    assert not any(p.is_dir() for p in (tmp_path / "voices").iterdir())
    for call in (store.get, store.delete, store.read_clip):
        for name in ("gone", record.id):
            with pytest.raises(NotFoundError) as caught:
                call(name)
            assert caught.value.param == "voice"
    assert add(store, "gone").id == record.id


def test_an_empty_store_makes_no_folder(store: VoiceStore, tmp_path: Path) -> None:
    assert store.list() == []
    with pytest.raises(NotFoundError):
        store.get("anyone")
    assert not (tmp_path / "voices").exists()


@pytest.mark.parametrize("consent", ["", "  \n"])
def test_no_voice_without_consent(store: VoiceStore, consent: str) -> None:
    with pytest.raises(AudioVoiceError) as caught:
        store.add("nova", short_clip(), consent=consent)
    assert (caught.value.param, caught.value.status) == ("consent", 403)
    assert store.list() == []


GOOD = ["a", "Zoë", "अनीता", "山田 太郎", "Анна-Мария", "voice.2_b", "7th", "x" * 64, "مُحَمَّد"]
BAD = [
    *(
        "",
        " ",
        "x" * 65,
        ".",
        "..",
        ".hidden",
        "../etc",
        "a/b",
        "a\\b",
        "a\0b",
        "a\nb",
        "-rf",
        "a.",
    ),
    *("C:", "a*", "<b>", "💥", "a\u202eb", "a\u200bb", "\ud800", "default", "Default", "%2e%2e"),
    *("voice_0123456789abcdef01234567", "VOICE_x", "/etc/passwd"),
]


@pytest.mark.parametrize("name", GOOD)
def test_names_of_any_script(store: VoiceStore, name: str) -> None:
    assert add(store, name).name == unicodedata.normalize("NFC", name)
    assert [record.name for record in store.list()] == [unicodedata.normalize("NFC", name)]


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_names_that_are_refused(store: VoiceStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        add(store, name)
    assert (caught.value.param, caught.value.code) == ("name", "invalid_voice_name")
    caught.value.message.encode()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFoundError):
        store.get(name)


def test_an_id_can_only_be_found_where_ids_are(store: VoiceStore) -> None:
    assert is_voice_id(voice_id_of("../../etc"))
    assert check_voice_name(" Ann ") == "Ann"


def _damage_nothing_at_all(path: Path) -> None:
    for child in path.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()


def _edit(path: Path, **changes: object) -> None:
    file = path / "voice.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


DAMAGE = {
    "empty folder": _damage_nothing_at_all,
    "no record": lambda p: (p / "voice.json").unlink(),
    "half a record": lambda p: os.truncate(p / "voice.json", 40),
    "not text": lambda p: (p / "voice.json").write_bytes(b"\xff\xfe\x00"),
    "a list": lambda p: (p / "voice.json").write_text("[]"),
    "a wrong type": lambda p: _edit(p, name=5),
    "another's name": lambda p: _edit(p, name="someone else"),
    "another's id": lambda p: _edit(p, id=voice_id_of("someone else")),
    "no consent": lambda p: _edit(p, consent=" "),
    "no clip file": lambda p: (p / "clips" / "0.flac").unlink(),
    "no clips": lambda p: _edit(p, clips=[]),
    "a newer layout": lambda p: _edit(p, layout=99),
    "a clip elsewhere": lambda p: _edit(
        p,
        clips=[{"file": "../../x", "sha256": "", "duration_s": 1, "sample_rate": 24000}],
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_named_once_and_left_out(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = VoiceStore(tmp_path, max_voices=9)
    good, bad = add(writer, "good"), add(writer, "bad")
    DAMAGE[case](tmp_path / bad.id)
    reader = VoiceStore(tmp_path, max_voices=9)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert reader.list() == [good]
    assert len(caplog.records) == 1
    assert bad.id in caplog.text
    with pytest.raises(NotFoundError):
        reader.get("bad")
    again = add(reader, "bad")
    assert reader.list() == [again, good]
    assert len(list(tmp_path.glob(".damaged-*"))) == 1  # its consent is kept, though not used


@pytest.mark.parametrize("how", ["truncated", "changed", "missing"])
def test_a_damaged_clip_is_never_cloned(tmp_path: Path, how: str) -> None:
    store = VoiceStore(tmp_path, max_voices=9)
    record = add(store, "nova")
    assert store.list() == [record]
    path = tmp_path / record.id / "clips" / "0.flac"
    data = path.read_bytes()
    path.write_bytes(data[:-50] if how == "truncated" else data[:-50] + b"x" * 50)
    if how == "missing":
        path.unlink()
    with pytest.raises(ModelFileError, match="upload it again") as caught:
        store.read_clip("nova")
    assert str(path) in caught.value.message


def test_other_processes_see_changes_at_once(tmp_path: Path) -> None:
    one, other = VoiceStore(tmp_path, 9), VoiceStore(tmp_path, 9)
    record = add(one, "nova")
    assert other.list() == [record]
    one.delete("nova")
    assert other.list() == []
    later = one.add("nova", short_clip(), consent="Another consent.")
    assert other.get("nova") == later


def test_strangers_in_the_folder_are_passed_over(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path, 9)
    record = add(store, "nova")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".new-abc").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / record.id)
    assert store.list() == [record]


def test_a_failed_write_leaves_no_trace(
    store: VoiceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders, "_write_durable", full_disk)
        with pytest.raises(OSError, match="No space"):
            add(store, "nova")
    assert store.list() == []
    assert [p.name for p in (tmp_path / "voices").iterdir()] == [".lock"]
    add(store, "nova")


def test_what_a_dead_process_left_is_removed_later(store: VoiceStore, tmp_path: Path) -> None:
    add(store, "first")
    old, young = tmp_path / "voices" / ".new-old", tmp_path / "voices" / ".gone-young"
    for path in (old, young):
        path.mkdir()
    os.utime(old, (0, 0))
    add(store, "second")
    assert not old.exists()
    assert young.exists()


def _try_to_add(root: Path, results: list[str], name: str, max_voices: int) -> None:
    try:
        add(VoiceStore(root, max_voices), name)
        results.append("added")
    except ConflictError as error:
        results.append(error.code)


@pytest.mark.parametrize(
    ("names", "max_voices", "added"), [(["same"] * 8, 50, 1), ([f"v{i}" for i in range(8)], 3, 3)]
)
def test_a_race_has_one_winner_and_keeps_the_limit(
    tmp_path: Path, names: list[str], max_voices: int, added: int
) -> None:
    results: list[str] = []
    threads = [
        threading.Thread(target=_try_to_add, args=(tmp_path, results, name, max_voices))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("added") == added == len(VoiceStore(tmp_path, 99).list())
    assert len(results) == len(names)


def _add_and_delete(root: Path) -> None:
    store = VoiceStore(root, 9)
    for _ in range(12):
        add(store, "flicker")
        store.delete("flicker")


def test_a_reader_never_sees_half_a_voice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=_add_and_delete, args=(tmp_path,))
    writer.start()
    reader, seen = VoiceStore(tmp_path, 9), set()
    while writer.is_alive():
        seen |= {record.name for record in reader.list()}
    writer.join()
    assert writer.exitcode == 0
    assert seen <= {"flicker"}
    assert "left out" not in caplog.text


def test_listing_again_reads_nothing_again(tmp_path: Path) -> None:
    first = add(VoiceStore(tmp_path, 9), "v0")
    for index in range(1, 300):
        copy = tmp_path / voice_id_of(f"v{index}")
        shutil.copytree(tmp_path / first.id, copy)
        _edit(copy, name=f"v{index}", id=copy.name)
    store = VoiceStore(tmp_path, 999)
    assert len(store.list()) == 300
    start = time.process_time()
    assert len(store.list()) == 300
    assert time.process_time() - start < 0.05
