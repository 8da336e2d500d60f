"""Sides by content: no order, name or folder changes them, and takes of a text stay together."""

from __future__ import annotations

import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.audio_facts import AudioFacts
from train.data.checks import CheckedClip
from train.data.samples import Sample
from train.data.split import Split, split_clips
from train.data.texts import text_key


def clip(number: int, text: str, folder: str = "a") -> CheckedClip:
    facts = AudioFacts(sha256=f"{number:064x}", duration_s=2.0)
    sample = Sample(f"{folder}{number}", Path(folder) / f"{number}.wav", text)
    return CheckedClip(sample, "en", facts, text, (1, 2))


def clips(num: int, takes: int = 1, folder: str = "a") -> list[CheckedClip]:
    return [clip(i, f"Text {i // takes}", folder) for i in range(num)]


def contents(part: tuple[CheckedClip, ...]) -> list[str]:
    return [c.facts.sha256 for c in part]


def sides(split: Split) -> list[list[str]]:
    return [contents(split.train), contents(split.eval), contents(split.left_out)]


def test_order_names_and_folders_change_nothing() -> None:
    wanted = sides(split_clips(clips(100), eval_share=0.1, max_train=50))
    moved = clips(100, folder="elsewhere")
    for seed in range(3):
        random.Random(seed).shuffle(moved)
        assert sides(split_clips(moved, eval_share=0.1, max_train=50)) == wanted


@settings(deadline=None, max_examples=60)
@given(num=st.integers(4, 120), takes=st.integers(1, 4), share=st.floats(0.01, 0.5))
def test_nothing_is_lost_and_takes_stay_together(num: int, takes: int, share: float) -> None:
    if num <= takes:
        return
    split = split_clips(clips(num, takes), eval_share=share)
    assert sorted(contents(split.train) + contents(split.eval)) == sorted(
        contents(tuple(clips(num, takes)))
    )
    assert split.train
    assert split.eval
    train_texts = {text_key(c.sample.text) for c in split.train}
    assert not train_texts & {text_key(c.sample.text) for c in split.eval}


def test_the_share_is_kept() -> None:
    split = split_clips(clips(200), eval_share=0.1)
    assert (len(split.train), len(split.eval)) == (180, 20)
    assert split.summary == "180 clips to train on, 20 held out."


def test_fewer_samples_are_among_more_and_the_held_out_stay() -> None:
    few = split_clips(clips(100), eval_share=0.1, max_train=20)
    more = split_clips(clips(100), eval_share=0.1, max_train=60)
    assert contents(few.train) == contents(more.train)[:20]
    assert contents(few.eval) == contents(more.eval)
    assert len(few.left_out) == 70
    assert "70 left out by MAX_TRAIN_SAMPLES" in few.summary


def test_a_clip_more_moves_hardly_any() -> None:
    before = set(contents(split_clips(clips(200), eval_share=0.1).eval))
    after = set(contents(split_clips([*clips(200), clip(999, "New")], eval_share=0.1).eval))
    assert len(before & after) >= 19
