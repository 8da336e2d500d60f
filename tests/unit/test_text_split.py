"""Segments: no word lost, each one short enough, cut where a speaker would breathe."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.text.languages import LANGUAGES
from app.text.split import split_sentences, split_text


def _short(piece: str) -> bool:
    return len(piece) <= 1000


WORDS = st.sampled_from(
    ["a", "word", "Dr.", "Smith", "3.50", "R$ 1.234,56", "end.", "Really?", "so,", "–", "(x)",
     "https://example.com/a/b?c=d", "你好，世界。", "e\u0301\u0316", "supercalifragilistic", "...",
     "25.", "J.", "「なぜ」", "नमस्ते।", "1" * 60, "!"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(WORDS, min_size=1, max_size=120),
    st.sampled_from(sorted(LANGUAGES)),
    st.integers(min_value=5, max_value=250),
    st.integers(min_value=1, max_value=250),
)
def test_no_word_is_lost_and_every_piece_fits(
    words: list[str], language: str, max_chars: int, fit_chars: int
) -> None:
    text = " ".join(words)
    segments = split_text(text, language, max_chars, lambda piece: len(piece) <= fit_chars)
    assert re.sub(r"\s", "", "".join(segments)) == re.sub(r"\s", "", text)
    for segment in segments:
        assert segment == segment.strip()
        assert 1 <= len(segment) <= max(1, min(max_chars, fit_chars))


@pytest.mark.parametrize(
    ("language", "text", "sentences"),
    [
        ("en", "Dr. Smith paid $3.50. Mr. J. R. Brown did not.", 2),
        ("en", "He said \"Stop!\" and left. Why? Nobody knows.", 3),
        ("en", "See e.g. Fig. 3 in Vol. 2. It costs No. 5.", 2),
        ("en", "Visit example.com. It is at v1.2.3.", 2),
        ("pt", "O Dr. Silva e a Sra. Souza moram na Av. Brasil, nº 5. Ele saiu às 14h30.", 2),
        ("pt", "Custa R$ 1.234,56. Barato, p. ex. para ele.", 2),
        ("de", "Am 25. Dezember kam Hr. Müller, z. B. um drei. Er ging.", 2),
        ("fr", "M. Dupont est là. Mme. Moreau aussi !", 2),
        ("zh-cn", "你好。世界！真的吗？", 3),
        ("ja", "「なぜ？」と言った。終わり。", 2),
        ("hi", "यह एक वाक्य है। यह दूसरा है।", 2),
        ("ar", "هل هذا صحيح؟ نعم.", 2),
        ("ru", "Это ул. Ленина, д. 5. Да.", 2),
    ],
)  # fmt: skip
def test_sentence_ends(language: str, text: str, sentences: int) -> None:
    assert len(split_sentences(text, language)) == sentences


def test_short_sentences_share_a_segment() -> None:
    assert split_text("One is. Two is. Three is.", "en", 250, _short) == [
        "One is. Two is. Three is."
    ]


def test_cuts_at_sentence_ends_first() -> None:
    first = "The first sentence is here, and it is of a middling length."
    second = "The second sentence is here, and it is about as long."
    assert split_text(f"{first} {second}", "en", 70, _short) == [first, second]


def test_a_long_sentence_is_cut_at_a_clause_near_its_middle() -> None:
    text = "When the wind rose before the morning came, nobody in the house could say why it did."
    assert split_text(text, "en", 60, _short) == [
        "When the wind rose before the morning came,",
        "nobody in the house could say why it did.",
    ]


def test_no_tiny_remainder() -> None:
    sentence = "The first sentence has a clause, and then another one that is about as long."
    segments = split_text(f"{sentence} Yes.", "en", len(sentence), _short)
    assert all(len(segment.split()) > 2 for segment in segments)
    assert " ".join(segments) == f"{sentence} Yes."


def test_last_segment_is_evened_out() -> None:
    sentence = "This is a sentence of about fifty letters, it is so."
    segments = split_text(" ".join([sentence] * 9), "en", 215, _short)
    sizes = [len(segment) for segment in segments]
    assert min(sizes) > 0.4 * max(sizes)


@pytest.mark.parametrize(
    ("language", "whole"),
    [
        ("en", "Dr. Smith"),
        ("en", "3.14159"),
        ("en", "https://example.com/some/path"),
        ("pt", "R$ 1.234,56"),
        ("pt", "10 000"),
        ("pt", "nº 57"),
        ("de", "25 km"),
        ("fr", "3,5 %"),
    ],
)
def test_never_cuts_inside(language: str, whole: str) -> None:
    for padding in range(60):
        filler = "o " * padding
        text = f"{filler}mm {whole} nn " + "o " * 40
        segments = split_text(text.strip(), language, 50, _short)
        assert sum(whole in segment for segment in segments) == 1, segments


def test_text_without_spaces_is_cut_between_graphemes() -> None:
    text = "e\u0323\u0307" * 300
    segments = split_text(text, "en", 100, _short)
    assert "".join(segments) == text
    assert all(segment[0] == "e" for segment in segments)


def test_asks_for_no_more_than_max_chars() -> None:
    asked: list[int] = []

    def fits(piece: str) -> bool:
        asked.append(len(piece))
        return True

    split_text("word " * 20_000, "en", 200, fits)
    assert max(asked) <= 200
    assert sum(asked) < 20 * 100_000
