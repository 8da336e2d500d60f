"""From a request's text to segments: every language, any length, no unknown token."""

from __future__ import annotations

import time

import pytest
from text_vocab import write_full_vocab

from app.errors import InputError
from app.text.languages import LANGUAGES
from app.text.plan import Segment, plan_segments
from app.text.tokenizer import TextTokenizer

MAX_TOKENS = 400

#: Plain words, numbers, dates, money, abbreviations and signs of each language.
TEXTS = {
    "en": 'Dr. Smith paid $1,234.56 on 12/25/2024 at 2:30 pm — "why?" 50% of 3.14 & more @ 5 km/h.',
    "es": "¡Sí! El Sr. Núñez pagó 1.234,56 € el 25/12/2024 a las 14:30; ¿un 3,5 % más? 1.er piso.",
    "fr": "Le 1er mai 2024 à 14h30, Mme Lefèvre a payé 1 234,56 € : « c'est œuvre », 3,5 %.",
    "de": "Am 25. Dezember 2024 um 14:30 Uhr zahlte Dr. Müller 1.234,56 € – größer als 3,5 %!",
    "it": "Il 25/12/2024 alle 14:30 il Sig. Rossi pagò € 1.234,56: perché? È il 3,5%, 1° piano.",
    "pt": "Em 25/12/2024, às 14h30, o Dr. João e a Sra. Conceição pagaram R$ 1.234,56 (3,5%) na "
          "Av. Brasil, nº 1578, 2º andar; são 25°C, 21 meninas, ana@exemplo.com.br.",
    "pl": "25 grudnia 2024 o 14:30 dr Żółć zapłacił 1 234,56 zł, tj. 3,5%. Zażółć gęślą jaźń!",
    "tr": "25.12.2024 saat 14:30'da Dr. Işık 1.234,56 ₺ ödedi, %3,5 daha. Ağaç, çöl, ŞÜKRÜ.",
    "ru": "25 декабря 2024 г. в 14:30 г-н Ёлкин заплатил 1 234,56 ₽, это 3,5 % — объём ещё больше.",
    "nl": "Op 25-12-2024 om 14:30 betaalde dhr. Jansen € 1.234,56, d.w.z. 3,5% – geïnteresseerd?",
    "cs": "25. prosince 2024 v 14:30 Ing. Řehoř zaplatil 1 234,56 Kč, tj. 3,5 %. Příliš žluťoučký.",
    "ar": "في 25/12/2024 الساعة 14:30 دفع د. أحمد 1,234.56 $، أي 3.5٪؛ هل هذا صحيح؟ ١٢٣.",
    "zh-cn": "2024年12月25日14:30，王先生付了¥1234.56，占3.5%。真的吗？“是”！他说：A4纸。",
    "hu": "2024. december 25-én 14:30-kor Dr. Szőke 1 234 Ft-ot fizetett, ez 3,5 %. Űrhajó!",
    "ko": "2024년 12월 25일 14:30에 김 씨는 $1,234.56를 냈다. 3.5%인가? 사과 3개.",
    "ja": "2024年12月25日14:30に、田中さんは¥1,234を払った。「3.5%？」と言った。東京タワー！",
    "hi": "25/12/2024 को 14:30 बजे डॉ. शर्मा ने ₹1,23,456.50 दिए; 3.5% ज़्यादा। ५० सैनिक!",
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return TextTokenizer.from_file(
        write_full_vocab(tmp_path_factory.mktemp("vocab") / "vocab.json")
    )


def _plan(tokenizer: TextTokenizer, text: str, language: str = "auto") -> list[Segment]:
    return plan_segments(
        text,
        language=language,
        tokenizer=tokenizer,
        supported=tokenizer.languages,
        default_language="en",
        max_tokens=MAX_TOKENS,
        is_sayable=lambda spoken, language: True,
    )


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_no_unknown_token_in_any_language(tokenizer: TextTokenizer, language: str) -> None:
    segments = _plan(tokenizer, TEXTS[language], language)
    language_id = tokenizer.encode("a", language)[0]
    for segment in segments:
        assert tokenizer.unknown_id not in segment.token_ids
        assert segment.token_ids[0] == language_id
        assert segment.dropped == ""
        assert not any(char.isdigit() for char in segment.spoken)
        assert len(segment.spoken) <= LANGUAGES[language].char_limit


def test_portuguese_is_spoken_as_written(tokenizer: TextTokenizer) -> None:
    spoken = " ".join(segment.spoken for segment in _plan(tokenizer, TEXTS["pt"], "pt-BR"))
    for words in (
        "vinte e cinco de dezembro de dois mil e vinte e quatro",
        "às catorze horas e trinta",
        "doutor João",
        "senhora Conceição",
        "mil duzentos e trinta e quatro reais e cinquenta e seis centavos",
        "três vírgula cinco por cento",
        "avenida Brasil, número mil quinhentos e setenta e oito, segundo andar",
        "vinte e cinco graus Celsius",
        "vinte e uma meninas",
        "ana arroba exemplo ponto com ponto br",
    ):
        assert words in spoken


def test_auto_follows_the_sentences(tokenizer: TextTokenizer) -> None:
    text = (
        "Bom dia, como vai você hoje? The meeting starts at two in the afternoon. Ok. "
        "今日は良い天気です。"
    )
    plan = _plan(tokenizer, text)
    assert [segment.language for segment in plan] == ["pt", "en", "ja"]
    assert plan[1].text.endswith("Ok.")
    assert all(segment.language_reason for segment in plan)


def test_auto_without_a_hint_takes_the_default(tokenizer: TextTokenizer) -> None:
    assert _plan(tokenizer, "Taxi 24")[0].language == "en"


@pytest.mark.parametrize("language", ["en", "pt", "zh-cn", "de"])
def test_long_text_is_planned_in_linear_time(tokenizer: TextTokenizer, language: str) -> None:
    text = TEXTS[language] + " "
    _plan(tokenizer, text, language)
    started = time.process_time()
    small = _plan(tokenizer, text * 40, language)
    middle = time.process_time()
    large = _plan(tokenizer, text * 160, language)
    ended = time.process_time()
    assert len(large) > 3 * len(small)
    assert ended - middle < 8 * (middle - started) + 0.5


@pytest.mark.parametrize(
    "text", ["9" * 5000, "word" * 2000, "你好" * 2000, "a.b/c" * 1000, "%5 " * 900]
)
@pytest.mark.parametrize("language", ["en", "zh-cn", "pt"])
def test_the_token_limit_holds_for_any_text(
    tokenizer: TextTokenizer, text: str, language: str
) -> None:
    for segment in plan_segments(
        text,
        language=language,
        tokenizer=tokenizer,
        supported=tokenizer.languages,
        default_language="en",
        max_tokens=60,
        is_sayable=lambda spoken, language: True,
    ):
        assert 2 <= len(segment.token_ids) <= 60


def test_no_segment_is_longer_than_can_be_said(tokenizer: TextTokenizer) -> None:
    text = " ".join([TEXTS["pt"]] * 3)
    segments = plan_segments(
        text,
        language="pt",
        tokenizer=tokenizer,
        supported=tokenizer.languages,
        default_language="en",
        max_tokens=MAX_TOKENS,
        is_sayable=lambda spoken, language: len(spoken) <= {"pt": 110}[language],
    )
    assert all(len(segment.spoken) <= 110 for segment in segments)
    spoken = "".join(segment.spoken for segment in segments)
    whole = "".join(segment.spoken for segment in _plan(tokenizer, text, "pt"))
    assert spoken.replace(" ", "") == whole.replace(" ", "")


@pytest.mark.parametrize("text", ["א", "אעא.", "א, ע!"])
def test_text_without_a_spelling_is_refused(tokenizer: TextTokenizer, text: str) -> None:
    with pytest.raises(InputError) as caught:
        _plan(tokenizer, text, "en")
    assert caught.value.code == "empty_text"


def test_unsupported_language_is_named(tokenizer: TextTokenizer) -> None:
    with pytest.raises(InputError) as caught:
        _plan(tokenizer, "hello", "sv")
    assert caught.value.param == "language"
