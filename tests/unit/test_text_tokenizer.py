"""Vocabularies: what they hold, how words are spelt with them, and no unknown token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from text_vocab import VOCAB

from app.errors import InputError, ModelFileError
from app.text.tokenizer import TextTokenizer


@pytest.fixture(scope="module")
def xtts() -> TextTokenizer:
    return TextTokenizer.from_file(VOCAB)


@pytest.fixture
def letters(tmp_path: Path) -> TextTokenizer:
    """A vocabulary of one language and lower-case ASCII letters only."""
    return TextTokenizer.from_file(_write_vocab(tmp_path / "vocab.json", "en", _LETTERS))


_LETTERS = [*"abcdefghijklmnopqrstuvwxyz", *"'.,?!;:-\"()"]


def _write_vocab(path: Path, language: str, symbols: list[str]) -> Path:
    special = ["[STOP]", "[UNK]", "[SPACE]", "[START]", f"[{language}]"]
    added = [
        {"id": index, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for index, token in enumerate(special)
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False,
        "vocab": {token: index for index, token in enumerate([*special, *symbols])}, "merges": [],
    }  # fmt: skip
    path.write_text(
        json.dumps(
            {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
             "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
             "decoder": None, "model": model}
        )
    )  # fmt: skip
    return path


def test_reads_the_real_vocabulary(xtts: TextTokenizer) -> None:
    assert xtts.num_tokens == 5413
    assert xtts.unknown_id == 1
    assert len(xtts.languages) == 14
    assert {"en", "pt", "zh-cn", "ja"} <= set(xtts.languages)


def test_language_token_first_then_space_tokens(xtts: TextTokenizer) -> None:
    ids = xtts.encode("A wind", "en")
    assert ids[0] == 259
    assert ids.count(2) == 1


@pytest.mark.parametrize(
    ("text", "language", "spelt"),
    [
        ("Hello World", "en", "hello world"),
        ('He said "no"', "en", "he said no"),
        ("IŞIK İzmir", "tr", "ışık izmir"),
        ("İstanbul", "de", "istanbul"),
        ("STRASSE Größe", "de", "strasse größe"),
        ("你好，世界。", "zh-cn", "ni3hao3,shi4jie4,"),
        ("안녕하세요", "ko", "annyeonghase-yo"),
        ("今日は良い天気です。", "ja", "kyou wa yoi tenki desu."),
    ],
)
def test_spells_as_in_training(xtts: TextTokenizer, text: str, language: str, spelt: str) -> None:
    assert xtts.spell(text, language).text == spelt


@pytest.mark.parametrize(
    ("text", "spelt", "dropped"),
    [
        ("Café Łódź naïve", "cafe lodz naive", ""),
        ("wait… no", "wait... no", ""),
        ("dash — here", "dash - here", ""),
        ("Привет", "privet", ""),
        ("¡Hola!", "hola!", ""),
        ("[en] [STOP]", "en stop", ""),
        ("five 5", "five", "5"),
    ],
)
def test_nearest_letters(letters: TextTokenizer, text: str, spelt: str, dropped: str) -> None:
    assert letters.spell(text, "en") == (tuple(spelt), dropped)
    ids = letters.encode(text, "en")
    assert letters.unknown_id not in ids
    assert 0 not in ids


def test_text_cannot_smuggle_special_tokens(xtts: TextTokenizer) -> None:
    ids = xtts.encode("[STOP] [START] [de] [UNK] [SPACE] end", "en")
    assert not {0, 261, 260, 1} & set(ids)


def test_unknown_language_names_the_choices(letters: TextTokenizer) -> None:
    with pytest.raises(InputError, match="use one of: en"):
        letters.encode("olá", "pt")


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": 5}'])
def test_refuses_what_is_no_vocabulary(tmp_path: Path, content: str) -> None:
    file = tmp_path / "vocab.json"
    file.write_text(content)
    with pytest.raises(ModelFileError, match=r"vocab\.json"):
        TextTokenizer.from_file(file)


def test_refuses_a_missing_file_and_a_foreign_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="missing"):
        TextTokenizer.from_file(tmp_path / "vocab.json")
    foreign = _write_vocab(tmp_path / "other.json", "xxx", ["a"])
    with pytest.raises(ModelFileError, match="not the vocabulary"):
        TextTokenizer.from_file(foreign)


def test_one_phoneme_one_token(tmp_path: Path) -> None:
    from app.text.phonemes import phoneme_words

    words = phoneme_words("The wind rose.", "en")
    symbols = sorted({symbol for word in words for symbol in word})
    file = _write_vocab(tmp_path / "vocab.json", "en", symbols)
    tokenizer = TextTokenizer.from_file(file, front_end="phonemes")
    ids = tokenizer.encode("The wind rose.", "en")
    assert len(ids) == 1 + sum(len(word) for word in words) + len(words) - 1
    assert tokenizer.unknown_id not in ids
