"""Any string becomes one clean line, fast, or a clear error."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InputError
from app.text.clean import clean_text
from app.text.split import split_text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  Hello,\tworld \n", "Hello, world"),
        ("cafe\u0301", "café"),
        ("a\u200bb\u200dc\u2060d\ufeffe\u00adf", "abcdef"),
        ("\u202eabc\u202c \u2066def\u2069", "abc def"),
        ("bell\x07 nul\x00 esc\x1b[0m", "bell nul esc[0m"),
        ("lone \ud800 surrogate \udc00 end", "lone surrogate end"),
        ("“Quoted” ‘single’ «guillemets» „low“", '"Quoted" \'single\' "guillemets" "low"'),
        ("l’homme d’État", "l'homme d'État"),
        ("non\u00a0breaking\u2009thin\u3000wide", "non breaking thin wide"),
        ("soft‐hyphen non‑breaking", "soft-hyphen non-breaking"),
        ("Nice 😀👍🏽 day 👨‍👩‍👧 🇧🇷 ❤️", "Nice day"),
        ("1️⃣ first", "1 first"),
        ("ﬁne ＡＢＣ１２３ 𝓗𝓮𝓵𝓵𝓸", "fine ABC123 Hello"),
        ("wow!!!!!!!!!", "wow!!!"),
        ("20 °C, nº 5, 1ª, 5 ℃", "20 °C, nº 5, 1ª, 5 ℃"),
        ("Title\n\nFirst line\nsecond line.\n\nEnd", "Title. First line second line. End"),
        ("標題\n\n正文", "標題。 正文"),
        ("no stop at the end", "no stop at the end"),
    ],
)
def test_cleans(raw: str, clean: str) -> None:
    assert clean_text(raw) == clean


@pytest.mark.parametrize(
    "raw", ["", "   ", "\n\t", "...", "?!—…", "😀", "\u200b\u200d", "\ud83d", "ㅤ"]
)
def test_refuses_text_without_speech(raw: str) -> None:
    with pytest.raises(InputError) as caught:
        clean_text(raw)
    assert caught.value.param == "input"
    assert caught.value.code == "empty_text"
    assert "letter or digit" in caught.value.message


@given(st.text(alphabet=st.characters(), max_size=200))
def test_output_is_always_plain(raw: str) -> None:
    try:
        clean = clean_text(raw)
    except InputError:
        return
    clean.encode("utf-8")
    assert clean == clean.strip()
    assert "  " not in clean
    assert all(unicodedata.category(char)[0] != "C" for char in clean)
    assert any(char.isalnum() for char in clean)


@pytest.mark.parametrize(
    "piece",
    [
        "The quick brown fox jumps over the lazy dog, and Dr. Smith paid 3.50 for it. Yes. ",
        "a",
        "a ",
        "1",
        "!a",
        "a\n\n",
        "“a",
        "a\u0301\u0316",
        "你好，",
        "' ",
    ],
)
def test_a_megabyte_takes_less_than_a_second(piece: str) -> None:
    text = "x" + piece * (1_000_000 // len(piece))
    started = time.process_time()
    segments = split_text(clean_text(text), "en", 250, lambda part: len(part) <= 250)
    assert time.process_time() - started < 1.0 * _SLACK
    assert segments


#: The bound is one second on an idle core; a busy test machine is given three.
_SLACK = 3
