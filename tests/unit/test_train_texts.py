"""Texts, phonemes, vocabulary and alignment of a recipe."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from app.errors import InputError, SettingsError
from app.text.phonemes import phoneme_words, phonemize, split_symbols
from train.pretrain.alignment import flite_times, warp_times
from train.pretrain.recipe import read_recipe
from train.pretrain.texts import make_phrases, read_sentences
from train.pretrain.vocabulary import UNKNOWN, PhonemeVocabulary, write_vocabulary

ROOT = Path(__file__).parents[2]


def test_phonemes_keep_words_stress_and_punctuation() -> None:
    assert phonemize("The judge, then?", "en") == "ðə dʒˈʌdʒ, ðˈɛn?"
    assert phoneme_words("boys.", "en") == [["b", "ˈɔɪ", "z", "."]]
    assert phonemize("boys", "en") == phonemize("boys.", "en")


@pytest.mark.parametrize("text", ["", "...", '"', " - "])
def test_nothing_to_speak_has_no_phonemes(text: str) -> None:
    assert phonemize(text, "en") == ""


def test_a_language_without_phonemes_is_refused() -> None:
    with pytest.raises(InputError, match="choose one of: en") as caught:
        phonemize("Bom dia.", "pt")
    assert caught.value.param == "language"


def test_symbols_of_a_string_are_those_of_its_words() -> None:
    text = "Which nature chose the outshining judge, Doctor O'Brien?"
    symbols = [s for word in phoneme_words(text, "en") for s in (*word, " ")][:-1]
    assert split_symbols(phonemize(text, "en")) == symbols


def test_every_symbol_is_one_token(tmp_path: Path) -> None:
    texts = ["Which boy chose the outshining judge?", "How loud, how fine! Go away now."]
    phonemes = [phonemize(text, "en") for text in texts]
    write_vocabulary(tmp_path / "vocab.json", phonemes, "en")
    vocabulary = PhonemeVocabulary(tmp_path / "vocab.json", "en")
    for line in phonemes:
        ids = vocabulary.encode(line)
        assert len(ids) == 1 + len(split_symbols(line))
        assert UNKNOWN not in ids
    assert UNKNOWN in vocabulary.encode("ß")


def test_sentences_are_plain_and_distinct(tmp_path: Path) -> None:
    content = "He was glad to be here.  He was glad to be here.\n%\nA 1st NASA thing.\n\t\t-- X\n"
    (tmp_path / "a.u8").write_text(content + "%\nShe didn't mind, did she?\n", encoding="utf-8")
    found = read_sentences([str(tmp_path / "*.u8")], min_chars=12, max_chars=75)
    assert found == ["He was glad to be here.", "She didn't mind, did she?"]
    with pytest.raises(SettingsError, match="fortunes"):
        read_sentences([str(tmp_path / "*.none")], min_chars=1, max_chars=9)


def test_phrases_have_one_to_four_words_and_depend_on_the_seed() -> None:
    words = ["ape", "bee", "cat", "dog", "elk"]
    phrases = make_phrases(words, 50, random.Random(1))
    assert phrases == make_phrases(words, 50, random.Random(1))
    assert {len(phrase.split()) for phrase in phrases} == {1, 2, 3, 4}


def test_flite_phones_give_symbols_their_times() -> None:
    segments = [("pau", 0.2), ("dh", 0.3), ("ax", 0.4), ("b", 0.5), ("oy", 0.8), ("z", 1.0)]
    times = flite_times(["ð", "ə", " ", "b", "ˈɔɪ", "z", "."], segments)
    np.testing.assert_allclose(times, [0.25, 0.35, 0.4, 0.45, 0.65, 0.9, 0.95], atol=1e-6)


def test_alignment_survives_other_words_than_flite_said() -> None:
    segments = [("hh", 0.1), ("ae", 0.3), ("t", 0.4), ("s", 0.6)]
    times = flite_times(["h", "ˈɑ", "s"], segments)
    assert (np.diff(times) > 0).all()
    assert times[1] == pytest.approx(0.2)


def test_a_slower_reading_has_later_times() -> None:
    rng = np.random.default_rng(0)
    source = np.repeat(rng.normal(size=(8, 80)), 5, axis=0).astype(np.float32)
    target = np.repeat(rng.permutation(source[::5]) * 0 + source[::5], 10, axis=0)
    times = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    warped = warp_times(times, source, target.astype(np.float32), frame_s=0.01)
    np.testing.assert_allclose(warped, times * 2, atol=0.06)


def test_the_shipped_recipe_is_valid() -> None:
    recipe = read_recipe(ROOT / "recipes" / "builtin")
    names = [speaker.name for speaker in recipe.data.speakers]
    assert recipe.default_voice in names


def test_every_fault_of_a_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('name = "x"\nsped = 1\n[gpt]\nsteps = "many"\n')
    with pytest.raises(SettingsError) as caught:
        read_recipe(tmp_path)
    for word in ("sped", "gpt.steps", "default_voice", "data"):
        assert word in caught.value.message
    with pytest.raises(SettingsError, match="does not exist"):
        read_recipe(tmp_path / "none")
