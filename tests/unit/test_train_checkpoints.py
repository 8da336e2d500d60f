"""States on the disk: what is linked beside one, which ones stay, which one is read."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import ANY

import pytest

from app.files import sha256_of_file
from train.checkpoints import (
    BESIDE,
    keep_newest,
    link_beside,
    list_checkpoints,
    load_newest,
    save_checkpoint,
)


def linked(folder: Path, step: int, file: Path) -> Path:
    """Saves a state with a file beside it; returns the file's name in the folder."""
    sha256 = sha256_of_file(file)
    name = link_beside(folder, step, file, sha256)
    assert name is not None
    save_checkpoint(folder, step, {"step": step, BESIDE: {name: sha256}})
    return folder / name


def test_what_is_linked_beside_a_state_lives_and_goes_with_it(tmp_path: Path) -> None:
    folder, names = tmp_path / "state", []
    for step in (1, 2, 3):
        file = tmp_path / f"weights{step}"
        file.write_bytes(bytes([step]) * 100)
        names.append(linked(folder, step, file))
        assert names[-1].stat().st_ino == file.stat().st_ino
        # whoever tidies up takes nothing away
        file.unlink()
    assert [name.exists() for name in names] == [False, True, True]
    # one whose state was never written, as after a kill between the two
    file = tmp_path / "weights9"
    file.write_bytes(b"9")
    orphan = folder / str(link_beside(folder, 9, file, sha256_of_file(file)))
    assert load_newest(folder) == {"step": 3, BESIDE: {names[2].name: ANY}}
    save_checkpoint(folder, 4, {"step": 4})
    assert not orphan.exists()
    assert names[2].read_bytes() == bytes([3]) * 100


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_state_whose_linked_file_is_not_whole_is_passed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    folder, file = tmp_path / "state", tmp_path / "weights"
    save_checkpoint(folder, 1, {"step": 1})
    file.write_bytes(b"weights")
    beside = linked(folder, 2, file)
    if harm == "gone":
        beside.unlink()
    else:
        file.write_bytes(b"another")
    assert load_newest(folder) == {"step": 1}
    assert f"{beside.name}, which belongs to" in caplog.text


def test_no_hard_links_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "weights").write_bytes(b"weights")
    assert link_beside(tmp_path / "state", 1, tmp_path / "weights", "0" * 64) is None


def test_a_state_of_the_same_step_is_replaced_and_the_one_before_stays(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    save_checkpoint(tmp_path, 2, {"step": 2, "epoch": "goes on"})
    save_checkpoint(tmp_path, 2, {"step": 2, "epoch": "is ended"})
    assert [path.name[5:13] for path in list_checkpoints(tmp_path)] == ["00000002", "00000001"]
    assert load_newest(tmp_path) == {"step": 2, "epoch": "is ended"}


def test_only_the_newest_is_kept_once_it_is_known_to_be_whole(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = save_checkpoint(tmp_path, 2, {"step": 2})
    good = newest.read_bytes()
    newest.write_bytes(good[:-1])
    keep_newest(tmp_path)
    assert load_newest(tmp_path) == {"step": 1}
    newest.write_bytes(good)
    keep_newest(tmp_path)
    assert list_checkpoints(tmp_path) == [newest]
