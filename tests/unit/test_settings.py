"""Settings: read from file and environment, faults named, documents equal to the class."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import ValidationError

from app.errors import SettingsError
from app.settings import TRAINING_KEYS, Settings, load_settings
from scripts import write_settings_docs as docs
from train.options import TrainingOptions, load_options


def write_env(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text, encoding="utf-8")
    return path


def test_env_example_and_page_equal_the_class() -> None:
    assert docs.ENV_EXAMPLE.read_text("utf-8") == docs.env_example(), "run make settings"
    assert docs.SETTINGS_PAGE.read_text("utf-8") == docs.settings_page(), "run make settings"


def test_every_field_is_documented() -> None:
    undocumented = [name for name, _, description in docs.fields() if not description]
    assert undocumented == []


def test_the_service_knows_the_trainers_keys() -> None:
    assert {name.upper() for name in TrainingOptions.model_fields} == TRAINING_KEYS
    assert not TrainingOptions.model_fields.keys() & Settings.model_fields.keys()


def test_env_example_reads_back_as_the_defaults() -> None:
    written = set(dotenv_values(docs.ENV_EXAMPLE))
    assert written == {name.upper() for name in Settings.model_fields} | TRAINING_KEYS
    assert load_settings(docs.ENV_EXAMPLE) == load_settings(Path("absent.env"))
    assert load_options(docs.ENV_EXAMPLE) == load_options(Path("absent.env"))


def test_training_options_are_read_from_the_same_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = write_env(tmp_path, "MAX_TRAIN_SAMPLES=200\nEVAL_SHARE=0.1\n")
    monkeypatch.setenv("EVAL_SHARE", "0.2")
    options = load_options(env, data=Path("clips"))
    assert (options.max_train_samples, options.eval_share) == (200, 0.2)
    assert options.data == Path("clips")
    assert load_options(docs.ENV_EXAMPLE).max_train_samples is None


def test_a_training_option_that_does_not_fit_is_named(tmp_path: Path) -> None:
    env = write_env(tmp_path, "MAX_TRAIN_SAMPLES=all\nEVAL_SHARE=2\n")
    with pytest.raises(SettingsError) as caught:
        load_options(env)
    assert "MAX_TRAIN_SAMPLES='all'" in str(caught.value)
    assert "EVAL_SHARE" in str(caught.value)


def test_environment_wins_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = write_env(tmp_path, "MAX_QUEUE=7\nAPI_PORT=9000\nAPI_KEYS=one, two\n")
    monkeypatch.setenv("API_PORT", "9001")
    settings = load_settings(env)
    assert (settings.max_queue, settings.api_port) == (7, 9001)
    assert settings.api_keys == ["one", "two"]


def test_settings_are_frozen() -> None:
    settings = load_settings(Path("absent.env"))
    with pytest.raises(ValidationError):
        settings.api_port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "near"),
    [("API_PROT=1", "API_PORT"), ("DEFAULT_MODLE=x", "DEFAULT_MODEL"), ("max_que=3", "MAX_QUEUE")],
)
def test_misspelt_key_stops_the_start_and_names_the_nearest(
    tmp_path: Path, line: str, near: str
) -> None:
    with pytest.raises(SettingsError, match=f"did you mean {near}"):
        load_settings(write_env(tmp_path, line + "\n"))


def test_foreign_key_is_named_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load_settings(write_env(tmp_path, "COMPOSE_PROJECT=x\n"))
    assert "COMPOSE_PROJECT" in caplog.text


def test_misspelt_environment_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OUTPUT_RETRYS", "3")
    with caplog.at_level(logging.WARNING):
        load_settings(Path("absent.env"))
    assert "did you mean OUTPUT_RETRIES" in caplog.text


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    env = write_env(tmp_path, "API_PORT=ninety\nMAX_QUEUE=0\nVOICE_ALIASES={'a'\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(env)
    assert "VOICE_ALIASES" in str(caught.value) or "voice_aliases" in str(caught.value)
    env = write_env(tmp_path, "API_PORT=ninety\nMAX_QUEUE=0\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(env)
    assert "API_PORT" in str(caught.value)
    assert "MAX_QUEUE" in str(caught.value)


def test_a_map_that_is_no_json_is_named_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^VOICE_ALIASES is no JSON \(Expecting"):
        load_settings(write_env(tmp_path, "VOICE_ALIASES={bad\n"))


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes("API_KEYS=schlüssel\n".encode("utf-16"))
    with pytest.raises(SettingsError, match=r"\.env is not UTF-8 text"):
        load_settings(path)
