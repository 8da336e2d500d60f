"""Language detection: right where it can tell, the default where it cannot."""

from __future__ import annotations

import pytest

from app.text import detect
from app.text.detect import detect_language, prepare_detection
from app.text.languages import LANGUAGES

ALL = tuple(LANGUAGES)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Bom dia, tudo bem?", "pt"),
        ("Onde fica a estação de trem?", "pt"),
        ("Preciso falar com o médico hoje.", "pt"),
        ("¿Dónde está la estación?", "es"),
        ("Necesito hablar con el médico hoy.", "es"),
        ("Devo parlare con il medico oggi.", "it"),
        ("The meeting starts at two.", "en"),
        ("Je veux acheter une voiture.", "fr"),
        ("Das Treffen beginnt um zwei.", "de"),
        ("De vergadering begint om twee uur.", "nl"),
        ("Gdzie jest dworzec?", "pl"),
        ("Kde je nádraží?", "cs"),
        ("Kahveyi çok seviyorum.", "tr"),
        ("Hol van az állomás?", "hu"),
        ("Где находится вокзал?", "ru"),
        ("أين تقع المحطة؟", "ar"),
        ("车站在哪里？", "zh-cn"),
        ("駅はどこですか。", "ja"),
        ("역은 어디에 있습니까?", "ko"),
        ("स्टेशन कहाँ है?", "hi"),
    ],
)
def test_names_the_language(text: str, code: str) -> None:
    found, reason = detect_language(text, ALL, "en" if code != "en" else "pt")
    assert found == code
    assert reason


@pytest.mark.parametrize("text", ["Ok", "Taxi 24", "123", "Hotel Paris"])
def test_short_text_takes_the_default(text: str) -> None:
    assert detect_language(text, ALL, "tr")[0] == "tr"


def test_only_supported_languages() -> None:
    assert detect_language("Bom dia, tudo bem com vocês?", ("en", "es"), "en")[0] in {"en", "es"}
    assert detect_language("駅はどこですか。", ("en",), "en") == (
        "en",
        "the model does not speak ja",
    )
    assert detect_language("Bom dia, tudo bem com vocês?", ("en",), "en")[0] == "en"


def test_kanji_alone_follow_a_japanese_default() -> None:
    assert detect_language("東京都", ALL, "ja")[0] == "ja"
    assert detect_language("东京都", ALL, "en")[0] == "zh-cn"


def test_the_classifier_is_there_before_the_first_text_if_any_can_need_it() -> None:
    detect._identifier.cache_clear()
    prepare_detection(["en"])
    prepare_detection(["en", "ja", "ru"])
    assert detect._identifier.cache_info().currsize == 0
    prepare_detection(["ja", "en", "pt"])
    assert detect._identifier.cache_info().misses == 1
    assert detect_language("Je veux acheter une voiture rouge.", ALL, "en")[0] == "fr"
    assert detect._identifier.cache_info().misses == 1
