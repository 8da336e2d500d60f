"""Plain sentences get the very tokens that stock coqui-tts gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
from text_vocab import write_full_vocab

from app.text.clean import clean_text
from app.text.normalise import normalise
from app.text.tokenizer import TextTokenizer

SENTENCES = {
    "en": "The wind rose before the morning came, and nobody could say why: it didn't matter.",
    "es": "El viento sopló antes de que llegara la mañana, ¿verdad? Pingüinos y niños.",
    "fr": "Le vent s'est levé avant l'aube, et personne n'a su dire où il allait; c'est là, cœur.",
    "de": "Der Wind wehte schon, bevor der Morgen kam; die Straße war größer als früher.",
    "it": "Il vento si alzò prima che venisse il mattino, perché così è la città.",
    "pt": "O vento soprou antes da manhã, e ninguém soube dizer o porquê: não há explicação.",
    "pl": "Wiatr zerwał się, zanim nadszedł poranek. Zażółć gęślą jaźń.",
    "tr": "Sabah olmadan önce rüzgâr çıktı, kimse nedenini söyleyemedi. Şimdi güneş doğuyor.",
    "ru": "Ветер поднялся раньше, чем наступило утро, и никто не мог сказать почему. Ещё рано!",
    "nl": "De wind stak op voordat de ochtend kwam, en niemand kon zeggen waarom.",
    "cs": "Vítr se zvedl dřív, než přišlo ráno, a nikdo nevěděl proč. Příliš žluťoučký kůň.",
    "ar": "هبت الريح قبل أن يأتي الصباح، ولم يعرف أحد السبب.",
    "zh-cn": "风在早晨来临之前就刮起来了，没有人知道为什么。",
    "hu": "A szél feltámadt, mielőtt megjött a reggel, és senki sem tudta, miért.",
    "ko": "아침이 오기 전에 바람이 불었고, 아무도 그 이유를 몰랐다.",
    "ja": "朝が来る前に風が吹き始めました。「なぜ」と誰も言えませんでした。",
    "hi": "सुबह होने से पहले हवा चलने लगी, और कोई नहीं बता सका कि क्यों।",
}


@pytest.mark.slow  # importing coqui-tts takes nine seconds
def test_plain_sentences_equal_stock(tmp_path: Path) -> None:
    from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer

    vocab = write_full_vocab(tmp_path / "vocab.json")
    stock = VoiceBpeTokenizer(str(vocab))
    ours = TextTokenizer.from_file(vocab)
    for language, sentence in SENTENCES.items():
        # Xtts.inference lower-cases and strips before it encodes
        expected = stock.encode(sentence.strip().lower(), language)
        assert ours.encode(normalise(clean_text(sentence), language), language) == expected
        assert ours.unknown_id not in expected
