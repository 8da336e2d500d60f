"""Language codes as people write them."""

from __future__ import annotations

import pytest

from app.errors import InputError
from app.text.languages import LANGUAGES, resolve_language

ALL = tuple(LANGUAGES)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("en", "en"),
        ("EN-us", "en"),
        ("pt-BR", "pt"),
        ("pt_PT", "pt"),
        ("zh", "zh-cn"),
        ("zh-TW", "zh-cn"),
        ("zh-CN", "zh-cn"),
        ("Portuguese", "pt"),
        (" de ", "de"),
        ("por", "pt"),
    ],
)
def test_resolves(written: str, code: str) -> None:
    assert resolve_language(written, ALL) == code


@pytest.mark.parametrize("written", ["xx", "", "klingon", "e", "en" * 5000])
def test_names_the_choices_when_unknown(written: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_language(written, ("en", "pt"))
    assert caught.value.param == "language"
    assert "en, pt" in caught.value.message
    assert len(caught.value.message) < 200


def test_only_what_the_model_speaks() -> None:
    with pytest.raises(InputError, match="one of: en"):
        resolve_language("pt", ("en",))


def test_there_are_seventeen() -> None:
    assert len(LANGUAGES) == 17
    assert all(code == language.code for code, language in LANGUAGES.items())
