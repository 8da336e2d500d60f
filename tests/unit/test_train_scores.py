"""Error rates, as they are counted everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.scores import ErrorCount, character_errors, edit_distance, plain_words, word_errors


@pytest.mark.parametrize(
    ("wanted", "heard", "edits", "words"),
    [
        ("One by one.", "one by one", 0, 3),
        ("One by one.", "one man for one", 2, 3),
        ("One by one.", "", 3, 3),
        ("No-sir-ee!", "no sir ee", 0, 3),
        ("Don't, O’Brien", "don't o'brien", 0, 2),
        ("Über den Fluß_", "über den fluss", 1, 3),
        ("Ветер стих.", "ветер стих", 0, 2),
    ],
)
def test_word_errors(wanted: str, heard: str, edits: int, words: int) -> None:
    assert word_errors(wanted, heard) == ErrorCount(edits, words)


def test_character_errors_count_spaces() -> None:
    assert character_errors("a cat", "acat") == ErrorCount(1, 5)


def test_counts_add_up_before_the_rate_is_taken() -> None:
    total = word_errors("one", "two") + word_errors("a b c", "a b c")
    assert total.rate == 0.25
    assert ErrorCount(0, 0).rate == 0.0


words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


@given(words, words, words)
def test_edit_distance_is_a_metric(a: list[str], b: list[str], c: list[str]) -> None:
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


def test_plain_words_leave_punctuation_out() -> None:
    assert plain_words(" Well, then -- no. ") == ["well", "then", "no"]
