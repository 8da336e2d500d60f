"""Models by name: found without a restart, meant by aliases, read again only when they change."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pooled import make_model

from app.errors import ModelFileError, NotFoundError
from app.models import registry as registry_module
from app.models.registry import ModelRegistry
from app.settings import Settings

Make = Callable[..., Settings]


@pytest.fixture
def settings_for(tmp_path: Path) -> Make:
    def make(**fields: Any) -> Settings:
        return Settings(_env_file=None, models_dir=tmp_path / "models", **fields)

    return make


def test_a_model_that_appears_is_there_and_one_that_goes_is_not(settings_for: Make) -> None:
    settings = settings_for()
    registry = ModelRegistry(settings)
    assert list(registry.bundles()) == ["builtin"]
    hidden = make_model(settings.models_dir / ".mine.part")
    assert list(registry.bundles()) == ["builtin"]
    hidden.rename(settings.models_dir / "mine")
    assert list(registry.bundles()) == ["builtin", "mine"]
    assert registry.resolve("mine") == "mine"
    assert registry.settings_for("mine").default_model == "mine"
    shutil.rmtree(settings.models_dir / "mine")
    with pytest.raises(NotFoundError, match=r"'mine'.*builtin, default, tts-1"):
        registry.resolve("mine")


def test_what_has_not_changed_is_not_read_again(
    settings_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for()
    folder = make_model(settings.models_dir / "mine")
    registry, read = ModelRegistry(settings), list[str]()
    real = registry_module.read_model
    monkeypatch.setattr(registry_module, "read_model", lambda p, n: read.append(n) or real(p, n))
    for _ in range(3):
        registry.bundles()
    assert read == ["builtin", "mine"]
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"en"', '"en", "pt"', 1))
    assert registry.find("mine").languages == ("en", "pt")
    assert read == ["builtin", "mine", "mine"]


def test_a_folder_with_a_fault_is_named_once_and_told_to_whoever_asks(
    settings_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for()
    (make_model(settings.models_dir / "mine") / "vocab.json").unlink()
    registry = ModelRegistry(settings)
    with caplog.at_level(logging.WARNING):
        assert "mine" not in registry.bundles()
        assert "mine" not in registry.bundles()
    assert caplog.text.count("vocab.json") == 1
    with pytest.raises(ModelFileError, match=r"vocab\.json is missing"):
        registry.resolve("mine")


def test_checkpoints_in_a_folder_are_models_of_their_own(settings_for: Make) -> None:
    settings = settings_for()
    folder = make_model(settings.models_dir / "run")
    for epoch in (1, 2):
        shutil.copy(folder / "model.pth", folder / f"checkpoint_epoch_{epoch}.pt")
    (folder / "model.pth").unlink()
    registry = ModelRegistry(settings)
    names = ["builtin", "run/checkpoint_epoch_1", "run/checkpoint_epoch_2"]
    assert list(registry.bundles()) == names
    bundle = registry.find("run/checkpoint_epoch_2")
    assert (bundle.name, bundle.kind) == ("run/checkpoint_epoch_2", "checkpoint")


def test_a_model_given_by_its_path_has_a_name(settings_for: Make, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "elsewhere" / "mine")
    registry = ModelRegistry(settings_for(default_model=str(folder), default_voice="anna"))
    assert registry.default == registry.resolve(None) == registry.resolve("tts-1") == "mine"
    assert registry.resolve(str(folder)) == "mine"
    for_mine, for_other = registry.settings_for("mine"), registry.settings_for("builtin")
    assert (for_mine.default_model, for_mine.default_voice) == (str(folder), "anna")
    assert (for_other.default_model, for_other.default_voice) == ("builtin", "")
    assert list(registry.bundles()) == ["builtin", "mine"]


def test_a_default_that_is_not_there_keeps_its_name(settings_for: Make) -> None:
    registry = ModelRegistry(settings_for(default_model="xtts-v2"))
    assert registry.default == registry.resolve("default") == "xtts-v2"
    assert [target.model for target in registry.aliases()] == ["xtts-v2"] * 4
    with pytest.raises(NotFoundError, match="COQUI_TOS_AGREED"):
        ModelRegistry(settings_for()).resolve("xtts-v2")


def test_aliases_of_the_settings_and_handed_ones(settings_for: Make) -> None:
    settings = settings_for(model_aliases={"tts-1": "default", "mine-hd": "mine", "gone": "lost"})
    for name in ("mine", "newer"):
        make_model(settings.models_dir / name)
    registry = ModelRegistry(settings)
    assert {t.alias: t.model for t in registry.aliases()} == {
        "default": "builtin",
        "tts-1": "builtin",
        "mine-hd": "mine",
    }
    registry.handed.point("tts-1", "mine")
    registry.handed.point("tts-1", "newer")
    registry.handed.point("tts-1", "newer")
    assert registry.resolve("tts-1") == "newer"
    assert registry.default == "builtin"
    handed = registry.handed.read()["tts-1"]
    assert (handed.model, handed.previous) == ("newer", ("", "mine"))
    registry.handed.roll_back("tts-1")
    assert registry.resolve("tts-1") == "mine"
    registry.handed.roll_back("tts-1")
    assert registry.resolve("tts-1") == "builtin"
    assert registry.handed.read() == {}


def test_an_alias_of_a_model_that_is_gone_means_the_one_before(
    settings_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for()
    make_model(settings.models_dir / "mine")
    registry = ModelRegistry(settings)
    registry.handed.point("default", "mine")
    assert registry.default == "mine"
    shutil.rmtree(settings.models_dir / "mine")
    with caplog.at_level(logging.ERROR):
        assert registry.default == registry.default == "builtin"
    assert caplog.text.count("mine") == 1


def test_a_damaged_file_of_aliases_is_told_and_no_alias_lost_silently(
    settings_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for()
    make_model(settings.models_dir / "mine")
    registry = ModelRegistry(settings)
    registry.handed.point("default", "mine")
    path = settings.models_dir / "aliases.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    with caplog.at_level(logging.ERROR):
        assert registry.default == "builtin"
        assert registry.default == "builtin"
    assert caplog.text.count("aliases.json can't be read") == 1
    path.write_bytes(whole)
    os.utime(path)
    assert registry.default == "mine"
