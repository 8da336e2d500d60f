"""Pauses by punctuation."""

from __future__ import annotations

import pytest

from app.audio.joints import pause_s_after


@pytest.mark.parametrize(
    "text", ["Done.", 'He asked "why?"', "نعم؟", "好。」", "सच।", "Wait…", "So! "]
)
def test_a_sentence_ends_with_a_long_pause(text: str) -> None:
    assert pause_s_after(text) == 0.25


@pytest.mark.parametrize("text", ["first,", "as follows:", "这样，", "أولا،", "so —"])
def test_a_clause_ends_with_a_short_pause(text: str) -> None:
    assert pause_s_after(text) == 0.15


@pytest.mark.parametrize("text", ["cut within", "", '"', "42"])
def test_a_cut_for_length_adds_nothing(text: str) -> None:
    assert pause_s_after(text) == 0.0
