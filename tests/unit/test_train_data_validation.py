"""Whole data sets: what is counted, refused and reported; work in processes that may die."""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from clip_folders import KATHLEEN, LONG_CLIP, LONG_TEXT, base_model, written

from train.data.checks import read_facts, save_facts
from train.data.histogram import histogram_svg
from train.data.processes import map_in_processes
from train.data.report import report_page, write_report
from train.data.split import split_clips
from train.data.summary import as_json, rows_of, summarise
from train.data.validation import Validation, validate_data
from train.options import TrainingOptions


def validate(data: Path, cache: Path) -> Validation:
    options = TrainingOptions(data=data, train_cache_dir=cache, data_workers=1)
    return validate_data(options, base_model())


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """The twelve clips, with a copy, a missing one, a silent one and a broken line."""
    folder = tmp_path / "voice"
    shutil.copytree(KATHLEEN, folder)
    shutil.copyfile(LONG_CLIP, folder / "wavs" / "extra.flac")
    shutil.copyfile(LONG_CLIP, folder / "wavs" / "copy.flac")
    written(folder / "wavs" / "silent.wav", np.zeros(24000), 24000)
    rows = [f"extra|{LONG_TEXT}", f"copy|{LONG_TEXT}", "gone|Where is it?", "silent|Hush.", "x"]
    with (folder / "metadata.csv").open("a") as stream:
        stream.write("\n".join(rows) + "\n")
    return folder


def test_a_good_folder(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    options = TrainingOptions(data=KATHLEEN, train_cache_dir=tmp_path)
    validation = validate_data(
        options, base_model(), lambda done, total: seen.append((done, total))
    )
    assert validation.problem == ""
    assert len(validation.usable) == 12
    assert validation.language.code == "en"
    assert seen[-1] == (12, 12)


def test_each_fault_is_named_and_the_rest_is_used(spoilt: Path, tmp_path: Path) -> None:
    validation = validate(spoilt, tmp_path / "cache")
    summary = summarise(validation)
    assert summary.findings == {"bad_row": 1, "missing": 1, "silent": 1, "duplicate_audio": 1}
    assert (summary.num_clips, summary.num_usable) == (17, 13)
    assert validation.problem == ""
    says = {row["clip"]: row["says"] for row in rows_of(validation)}
    assert "extra has the same audio" in says["copy"]
    assert "put the file there" in says["gone"]
    assert "metadata.csv:17" in says


def test_takes_are_named_and_used(tmp_path: Path) -> None:
    folder = tmp_path / "voice"
    shutil.copytree(KATHLEEN, folder)
    rows = (folder / "metadata.csv").read_text().splitlines()
    rows[1] = f"{rows[1].split('|')[0]}|{rows[0].split('|')[1].upper()}"
    (folder / "metadata.csv").write_text("\n".join(rows))
    validation = validate(folder, tmp_path / "cache")
    assert summarise(validation).findings == {"take": 1}
    assert len(validation.usable) == 12


def test_too_few_clips_are_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "voice"
    shutil.copytree(KATHLEEN, folder)
    rows = (folder / "metadata.csv").read_text().splitlines()
    (folder / "metadata.csv").write_text("\n".join(rows[:9]))
    problem = validate(folder, tmp_path / "cache").problem
    assert problem.startswith("9 of 9 clips can be used and at least 10")


def test_clips_that_all_say_the_same_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "voice"
    shutil.copytree(KATHLEEN, folder)
    rows = (folder / "metadata.csv").read_text().splitlines()
    same = (f"{row.split('|')[0]}|How old are you?" for row in rows)
    (folder / "metadata.csv").write_text("\n".join(same))
    assert "same text" in validate(folder, tmp_path / "cache").problem


def test_the_report_stands_alone(spoilt: Path, tmp_path: Path) -> None:
    validation = validate(spoilt, tmp_path / "cache")
    split = split_clips(validation.usable, eval_share=0.1)
    page = report_page(validation, split)
    assert page.count("<svg") == 6
    assert "src=" not in page
    assert "metadata.csv:17" in page
    write_report(tmp_path / "new" / "report.html", validation, None)
    assert (tmp_path / "new" / "report.html").is_file()
    result = as_json(validation, split)
    assert result["num_train"] + result["num_eval"] == result["num_usable"] == 13
    assert len(result["not_usable"]) == 4


def test_histograms_are_whole_pictures() -> None:
    values = ([1.0, 2.5, 2.6, 9.0], [3.0, 3.0], [float(n) for n in range(200)], [7.25])
    for numbers in values:
        picture = ElementTree.fromstring(histogram_svg(numbers, "Length & more", "s"))
        titles = [node.text or "" for node in picture.iter() if node.tag.endswith("}title")]
        assert sum(int(title.split(":")[0]) for title in titles) == len(numbers)
    assert histogram_svg([], "Nothing", "s") == ""


def test_names_can_not_break_the_page(spoilt: Path, tmp_path: Path) -> None:
    with (spoilt / "metadata.csv").open("a") as stream:
        stream.write("<script>alert(1)</script>|Hello there.\n")
    page = report_page(validate(spoilt, tmp_path / "cache"), None)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_measurements_are_remembered_by_content(tmp_path: Path) -> None:
    validate(KATHLEEN, tmp_path)
    path = tmp_path / "audio_facts.json"
    facts = read_facts(path)
    assert len(facts) == 12
    marked = {key: type(item)(**{**vars(item), "duration_s": 2.0}) for key, item in facts.items()}
    save_facts(path, marked)
    os.utime(path, (1, 1))
    moved = tmp_path / "moved"
    shutil.copytree(KATHLEEN, moved)
    from train.data import checks

    checks._known_facts.cache_clear()
    assert {c.facts.duration_s for c in validate(moved, tmp_path).clips} == {2.0}


def square_or_die(number: int) -> int:
    if number in (7, 30):
        os.abort()
    return number * number


@pytest.mark.slow
def test_an_item_that_kills_its_process_costs_itself_only() -> None:
    results = list(
        map_in_processes(
            square_or_die, list(range(40)), workers=2, on_crash=lambda number: -number, chunk=4
        )
    )
    assert results == [-n if n in (7, 30) else n * n for n in range(40)]


def fail_at_five(number: int) -> int:
    if number == 5:
        raise ValueError("five")
    return number


def test_an_error_of_the_work_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="five"):
        list(map_in_processes(fail_at_five, list(range(30)), workers=1, on_crash=abs))
