"""The small parts around the epochs: choice of sentences, history, keeping, space, view, board."""

from __future__ import annotations

import io
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from rich.console import Console
from training_runs import (
    PASSED,
    epoch_facts,
    kathleen_clips,
    listen_plan,
    run_plan,
    step_facts,
    text_score,
)

from app.errors import NotFoundError, SettingsError
from app.settings import Settings
from train.epochs.board import Board
from train.epochs.eta import Estimator
from train.epochs.history import EpochRecord, History, read_history
from train.epochs.job import Listened, TextScore, figures_in_words
from train.epochs.judge import Best
from train.epochs.keeping import (
    find_epoch_checkpoint,
    list_epoch_checkpoints,
    read_best,
    remember_best,
    remove_old,
)
from train.epochs.listen import read_speeches, write_speeches
from train.epochs.sentences import plan_listening
from train.epochs.space import SpaceNeeded, check_space_or_raise, needed_for, warn_of_next_save
from train.epochs.speaking import Speech
from train.epochs.view import View
from train.options import TrainingOptions


def test_the_reference_is_held_out_and_none_of_the_scored_texts(tmp_path: Path) -> None:
    clips = kathleen_clips(tmp_path)
    options = TrainingOptions(data=Path("clips/kathleen"), score_sentences=2)
    plan = plan_listening(clips, "builtin", Settings(), options)
    held_out = {clip.audio: clip.text for clip in clips.side("eval")}
    assert plan.reference in held_out
    assert len(plan.scored) == 2
    assert {text.text for text in plan.scored} <= set(held_out.values())
    assert held_out[plan.reference] not in {text.text for text in plan.scored}
    assert (plan.language, plan.speaker, plan.data) == ("en", "kathleen", "kathleen")
    assert "three hundred yards" in plan.text
    assert plan == plan_listening(clips, "builtin", Settings(), options)


def test_a_sentence_of_ones_own_and_a_language_without_one(tmp_path: Path) -> None:
    clips = kathleen_clips(tmp_path)
    own = TrainingOptions(sample_text="  Say this. ")
    assert plan_listening(clips, "builtin", Settings(), own).text == "Say this."
    russian = type(clips)(clips.path, clips.made_for, [replace(c, language="ru") for c in clips])
    plan = plan_listening(russian, "builtin", Settings(), TrainingOptions())
    assert plan.text in {clip.text for clip in clips.side("eval")}
    nothing = type(clips)(clips.path, clips.made_for, clips.side("train"))
    with pytest.raises(SettingsError, match="EVAL_SHARE"):
        plan_listening(nothing, "builtin", Settings(), TrainingOptions())


def test_history_is_read_back_and_forgotten_by_a_new_run(tmp_path: Path) -> None:
    plan = listen_plan(tmp_path)
    history = History(tmp_path, plan, is_new=True)
    history.run_name = "a"
    record = EpochRecord(
        1, 10, "c.pt", {}, {"loss": 3.0}, 1.0, PASSED, (text_score("t", 0.5),), {"value": 0.5}
    )
    history.put(record)
    again = History(tmp_path, plan, is_new=False)
    assert (again.epochs, again.run_name, again.base) == ((record,), "a", None)
    assert read_history(tmp_path) == (plan, (record,))
    assert History(tmp_path, plan, is_new=True).epochs == ()
    # what was said for other texts can't be compared
    other = msgspec.structs.replace(plan, seed=8)
    (kept,) = History(tmp_path, other, is_new=False).epochs
    assert (kept.eval_losses, kept.texts) == ({"loss": 3.0}, ())
    (tmp_path / "epochs.json").write_text("{")
    assert History(tmp_path, plan, is_new=False).epochs == ()
    with pytest.raises(NotFoundError, match="no training run"):
        read_history(tmp_path)


def test_the_newest_and_the_needed_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [tmp_path / f"checkpoint_epoch_{epoch}.pt" for epoch in (1, 2, 9, 10, 11)]
    for path in paths:
        path.touch()
    (tmp_path / "checkpoint_epoch_x.pt").touch()
    caplog.set_level("INFO")
    assert remove_old(tmp_path, 2, [paths[0]]) == [paths[1], paths[2]]
    assert list(list_epoch_checkpoints(tmp_path)) == [1, 10, 11]
    assert "epoch 9 (KEEP_CHECKPOINTS=2)" in caplog.text
    assert find_epoch_checkpoint(tmp_path, "best") == paths[4]  # the newest, as none is the best
    remember_best(tmp_path, Best(1, "checkpoint_epoch_1.pt", "a test"))
    assert read_best(tmp_path) == Best(1, "checkpoint_epoch_1.pt", "a test")
    assert find_epoch_checkpoint(tmp_path, "best") == paths[0]
    assert find_epoch_checkpoint(tmp_path, "10") == paths[3]
    with pytest.raises(NotFoundError, match="epochs there are 1, 10, 11"):
        find_epoch_checkpoint(tmp_path, "9")


def test_space_is_told_before_the_start(tmp_path: Path) -> None:
    needed = needed_for(2 * 10**9, 6 * 10**9, keep=2, num_states=3, num_epochs=50)
    assert needed.checkpoints == 5 * 2 * 10**9
    assert needed.total > 28 * 10**9
    few = needed_for(2 * 10**9, 0, keep=2, num_states=3, num_epochs=1)
    assert few.checkpoints == 2 * 10**9
    output = tmp_path / "not" / "there" / "yet"
    check_space_or_raise(output, SpaceNeeded(1, 1, 1))
    with pytest.raises(SettingsError, match=r"needs \d+.*GB.*KEEP_CHECKPOINTS.*Nothing was"):
        check_space_or_raise(output, SpaceNeeded(10**15, 10**15, 0))
    assert warn_of_next_save(output, 1) == ""
    assert "make room before this epoch ends" in warn_of_next_save(output, 10**15)


def test_figures_sum_up_the_texts() -> None:
    def text(name: str, errors: tuple[int, int], fault: str, duration_s: float) -> TextScore:
        return TextScore(name, name, "", duration_s, 2.0, errors, errors, 0.5, fault)

    listened = Listened(
        1, PASSED, (text("a", (1, 10), "", 2.0), text("b", (9, 10), "over-long", 6.0))
    )
    figures = listened.figures
    assert figures["character_error_rate"] == 0.5
    assert (figures["over_long_rate"], figures["cut_rate"]) == (0.5, 0.0)
    assert figures["duration_ratio"] == 2.0
    assert figures["value"] == pytest.approx(((0.5 - 0.1) + (0.5 - 0.9 - 1)) / 2)
    assert "50% characters wrong" in figures_in_words(figures)
    assert Listened(1, PASSED).figures == {}


def test_speech_is_left_for_another_process(tmp_path: Path) -> None:
    samples = np.linspace(-1, 1, 50, dtype=np.float32)
    speeches = {
        "sample": Speech(samples, 24000, 1, ("segment 1 of 1 made again: silent",), 1.5),
        "t1": Speech(None, 24000, 0, ("no: it's too long", "Ünïcode"), 0.0),
    }
    write_speeches(tmp_path / "left.npz", speeches)
    found = read_speeches(tmp_path / "left.npz")
    assert list(found) == ["sample", "t1"]
    assert found["sample"].samples is not None
    np.testing.assert_array_equal(found["sample"].samples, samples)
    assert found["sample"].notes == speeches["sample"].notes
    assert (found["t1"].samples, found["t1"].notes) == (None, speeches["t1"].notes)
    (tmp_path / "left.npz").write_bytes(b"PK\x03\x04damaged")
    with pytest.raises(Exception, match="can't be read"):
        read_speeches(tmp_path / "left.npz")


class Clock:
    """Seconds that a test turns forward."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_now_and_then(tmp_path: Path) -> None:
    shown, clock = io.StringIO(), Clock()
    view = View(Console(file=shown, width=200), clock=clock)
    plan = run_plan(tmp_path)
    eta = Estimator(plan)
    view.run_begins(plan)
    for step in range(1, 11):
        clock.now += 6
        eta.step_done(step_facts(step, seconds=6))
        view.step_done(replace(step_facts(step), quarantined=("bad.wav",) * (step == 3)), eta)
    view.epoch_done(epoch_facts(1, tmp_path / "checkpoint_epoch_1.pt"))
    view.end()
    lines = shown.getvalue().splitlines()
    assert lines[0].startswith("Training builtin for 3 epochs of 10 steps: 8 clips")
    steps = [line for line in lines if line.startswith("epoch 1/3 step")]
    assert len(steps) == 3  # every 15 s of 60
    assert "estimating" in steps[0]
    assert "left" in steps[-1]
    assert "1.7 s of audio a second" in steps[-1]
    assert any("bad.wav is put aside" in line for line in lines)
    assert lines[-1].endswith("saved in 0 s as checkpoint_epoch_1.pt.")


def test_a_terminal_gets_a_live_line(tmp_path: Path) -> None:
    shown = io.StringIO()
    view = View(Console(file=shown, width=160, force_terminal=True))
    plan = run_plan(tmp_path)
    eta = Estimator(plan)
    view.run_begins(plan)
    eta.step_done(step_facts(1))
    view.step_done(step_facts(1), eta)
    view.say("a word above")
    view.end()
    assert "epoch 1/3" in shown.getvalue()
    assert "a word above" in shown.getvalue()


def test_a_step_that_does_not_come_back_is_told_of_again_and_again(tmp_path: Path) -> None:
    shown = io.StringIO()
    view = View(Console(file=shown, width=200), stall_s=0.2)
    view.run_begins(run_plan(tmp_path))
    view.step_done(step_facts(1, seconds=0.01), Estimator(run_plan(tmp_path)))
    ends_s = time.monotonic() + 30
    while shown.getvalue().count("Step 2 has taken") < 2:
        assert time.monotonic() < ends_s, shown.getvalue()
        time.sleep(0.05)
    view.end()
    told = len(shown.getvalue())
    time.sleep(1.2)
    assert len(shown.getvalue()) == told  # nothing after the end


def test_tensorboard_runs_while_it_is_wanted(tmp_path: Path) -> None:
    others = set(psutil.Process().children(recursive=True))
    board = Board(tmp_path / "runs", 0)
    said = board.start()
    assert board.url in said
    taken = Board(tmp_path / "runs", int(board.url.rsplit(":", 1)[1]))
    ends_s = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(board.url, timeout=5) as answer:
                assert answer.status == 200
            break
        except OSError:
            assert time.monotonic() < ends_s
            time.sleep(0.2)
    assert "can't be had" in taken.start()
    assert taken.url == ""
    taken.stop()
    board.stop()
    assert board.url == ""
    assert set(psutil.Process().children(recursive=True)) <= others
