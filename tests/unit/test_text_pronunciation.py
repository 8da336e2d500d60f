"""gruut's words with an indexed lexicon against gruut's own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from gruut import TextProcessor, sentences

from app.text.pronunciation import open_indexed, read_words

TEXTS = (
    "The wind rose before the morning came, and nobody on the ship had slept.",
    "I read the book that you read yesterday; present it as a present!",
    "Dr. Smith paid $12.50 on 3 May 2021 at 10:30 a.m., don't you think?",
    'Xylqor\'s "blorptastic" re-entry (half-baked) — naïve café',
    "NASA's GPUs, 1,024 of them.",
    "",
)


def told(words: Iterable[Any]) -> list[tuple[str, str, list[str] | None]]:
    return [(word.text, word.pos, word.phonemes) for word in words]


@pytest.fixture(scope="module")
def lexicon() -> sqlite3.Connection:
    lookup = TextProcessor(default_lang="en-us").get_settings("en-us").lookup_phonemes
    return open_indexed(lookup.db_path)


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_gruuts(text: str) -> None:
    theirs = told(word for sentence in sentences(text, lang="en-us") for word in sentence)
    assert told(read_words(text, "en-us")) == theirs


def test_a_word_is_found_by_the_index(lexicon: sqlite3.Connection) -> None:
    """The question is the one that gruut's phonemizer asks."""
    question = "SELECT role, phonemes FROM word_phonemes WHERE word = ? ORDER BY pron_order"
    plan = lexicon.execute(f"EXPLAIN QUERY PLAN {question}", ("word",)).fetchall()
    assert [row[3] for row in plan] == ["SEARCH word_phonemes USING INDEX words (word=?)"]


def test_every_thread_may_read() -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(told(read_words(TEXTS[0], "en-us"))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [told(read_words(TEXTS[0], "en-us"))] * 2
