"""Which recogniser listens, and what is said where none can."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest
from clip_folders import LONG_CLIP, LONG_TEXT, samples_of

from app.errors import SettingsError
from train.scores import word_errors
from train.transcribe import (
    PocketSphinx,
    RecogniserChoice,
    choose_recogniser,
    open_recogniser,
)


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in names else None
    )


def test_english_is_listened_to_out_of_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "pocketsphinx")
    choice = choose_recogniser("auto", "en")
    assert choice == RecogniserChoice("pocketsphinx", "the texts are English")


def test_other_languages_need_whisper_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "pocketsphinx")
    choice = choose_recogniser("auto", "de")
    assert choice.name == "none"
    assert "'de'" in choice.reason
    assert "scores-whisper" in choice.reason
    assert open_recogniser(choice, "de", "small") is None
    installed(monkeypatch, "pocketsphinx", "faster_whisper")
    assert choose_recogniser("auto", "de").name == "whisper"


def test_what_was_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_recogniser("none", "en").name == "none"
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(SettingsError, match="scores-whisper"):
        open_recogniser(choose_recogniser("whisper", "en"), "en", "small")


def test_a_whisper_model_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        @staticmethod
        def WhisperModel(model: str, **_: Any) -> None:  # noqa: N802
            raise RuntimeError(f"no such model: {model}")

    monkeypatch.setitem(sys.modules, "faster_whisper", Module)
    with pytest.raises(SettingsError, match="SCORE_WHISPER_MODEL"):
        open_recogniser(RecogniserChoice("whisper", ""), "pt", "absent")


def test_a_recording_is_understood_well_enough() -> None:
    ears = open_recogniser(RecogniserChoice("pocketsphinx", ""), "en", "")
    assert isinstance(ears, PocketSphinx)
    heard = ears.transcribe(*samples_of(LONG_CLIP))
    assert word_errors(LONG_TEXT, heard).rate < 0.5, heard
