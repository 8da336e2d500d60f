"""Which files a name means, and the manifest and config that describe them."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.errors import ModelFileError, NotFoundError
from app.models.bundles import (
    builtin_folder,
    find_bundle,
    list_bundles,
    read_checkpoint,
    read_folder,
)
from app.models.config import read_config
from app.models.manifest import (
    hash_files,
    read_manifest,
    verify_files_or_raise,
    write_manifest,
)
from app.settings import Settings

CONFIG = {
    "model": "xtts",
    "model_args": {"gpt_n_model_channels": 64, "gpt_use_perceiver_resampler": True},
    "languages": ["en", "pt"],
    "temperature": 0.65,
    "max_audio_len": float("inf"),  # as coqui writes it; no JSON by the letter
}


def coqui_folder(folder: Path, *, weights: str = "model.pth") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.json").write_text("{}")
    (folder / weights).touch()
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(models_dir=tmp_path / "models")


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """A copy of the built-in bundle that a test may spoil."""
    return Path(shutil.copytree(builtin_folder(), tmp_path / "own"))


def test_builtin(settings: Settings) -> None:
    bundle = find_bundle("builtin", settings)
    manifest = json.loads((builtin_folder() / "manifest.json").read_text(encoding="utf-8"))
    assert (bundle.name, bundle.kind) == ("builtin", "bundle")
    assert bundle.version == manifest["version"]
    assert bundle.licence == "CC0-1.0"
    assert bundle.languages == ("en",)


def test_the_builtin_manifest_says_what_it_is() -> None:
    folder = builtin_folder()
    manifest = read_manifest(folder)
    assert manifest.files == hash_files(folder)
    assert any("not intelligible" in note for note in manifest.notes)
    config = read_config(folder / "config.json", folder / "decoder.json")
    # stock knows no guidance, so its own file says nothing of it
    assert config.sampling == manifest.sampling.model_copy(update={"guidance_scale": 1})
    assert config.model_args["gpt_layers"] == manifest.sizes.gpt_layers
    decoder = manifest.sizes.decoder.model_dump(mode="json")
    assert config.decoder_args is not None
    assert {key: config.decoder_args[key] for key in decoder} == decoder


def test_a_coqui_folder_by_path_and_by_name(settings: Settings) -> None:
    folder = coqui_folder(settings.models_dir / "mine")
    (folder / "speakers_xtts.pth").touch()
    for name in ("mine", str(folder)):
        bundle = find_bundle(name, settings)
        assert (bundle.name, bundle.kind) == ("mine", "coqui")
        assert bundle.weights == folder / "model.pth"
        assert bundle.speakers == folder / "speakers_xtts.pth"
        assert bundle.decoder is None
        assert bundle.languages == ("en", "pt")


def test_a_run_folder_of_coquis_trainer(tmp_path: Path) -> None:
    folder = coqui_folder(tmp_path / "run", weights="best_model.pth")
    assert read_folder(folder, "run").weights.name == "best_model.pth"


def test_a_checkpoint_takes_config_and_vocabulary_from_above(
    tmp_path: Path, settings: Settings
) -> None:
    folder = coqui_folder(tmp_path / "output")
    checkpoint = folder / "checkpoints" / "checkpoint_epoch_3.pt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    bundle = find_bundle(str(checkpoint), settings)
    assert (bundle.name, bundle.kind) == ("checkpoint_epoch_3", "checkpoint")
    assert bundle.weights == checkpoint
    assert bundle.vocab == folder / "vocab.json"


def test_a_lone_checkpoint_says_what_it_lacks(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c" / "d"
    deep.mkdir(parents=True)
    (deep / "x.pt").touch()
    with pytest.raises(ModelFileError, match=r"x\.pt has no config\.json and vocab\.json"):
        read_checkpoint(deep / "x.pt")
    (deep / "x.txt").touch()
    with pytest.raises(ModelFileError, match=r"x\.txt is no weights file"):
        read_checkpoint(deep / "x.txt")


def test_xtts_v2_that_is_not_there_says_how_to_get_it(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match=r"COQUI_TOS_AGREED=1.*models fetch xtts-v2") as caught:
        find_bundle("xtts-v2", settings)
    assert caught.value.code == "model_not_downloaded"


def test_an_unknown_name_lists_the_known(settings: Settings) -> None:
    coqui_folder(settings.models_dir / "mine")
    with pytest.raises(NotFoundError, match=r"'nope'.*builtin, mine"):
        find_bundle("nope", settings)


@pytest.mark.parametrize("name", ["model.pth", "config.json", "vocab.json"])
def test_a_folder_with_a_file_missing_names_it(
    settings: Settings, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = coqui_folder(settings.models_dir / "mine")
    (folder / name).unlink()
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
        find_bundle("mine", settings)
    with caplog.at_level(logging.WARNING):
        assert [bundle.name for bundle in list_bundles(settings)] == ["builtin"]
    assert str(folder) in caplog.text
    assert name in caplog.text


def test_hidden_folders_are_not_listed(settings: Settings) -> None:
    coqui_folder(settings.models_dir / ".xtts-v2.partial")
    coqui_folder(settings.models_dir / "b")
    coqui_folder(settings.models_dir / "a")
    assert [bundle.name for bundle in list_bundles(settings)] == ["builtin", "a", "b"]


def test_listing_needs_no_torch() -> None:
    code = "import sys, app.models.bundles; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling": {"temperature": 0}}, r"sampling\.temperature"),
        ({"colour": "red"}, r"colour"),
        ({"default_voice": "nobody"}, r"default_voice 'nobody'"),
        ({"files": {"../outside": "0" * 64}}, r"outside the bundle"),
        ({"files": {"config.json": "12"}}, r"files\.config\.json"),
        ({"scores": {"wer": float("nan")}}, r"scores\.wer"),
        ({"languages": []}, r"languages"),
    ],
)
def test_a_wrong_manifest_names_the_field(
    own_folder: Path, change: dict[str, Any], message: str
) -> None:
    path = own_folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelFileError, match=rf"manifest\.json is no valid manifest.*{message}"):
        read_manifest(own_folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}'])
def test_a_broken_manifest(own_folder: Path, text: str) -> None:
    (own_folder / "manifest.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"manifest\.json"):
        read_manifest(own_folder)


def test_a_manifest_survives_writing(own_folder: Path) -> None:
    manifest = read_manifest(own_folder)
    write_manifest(own_folder, manifest)
    assert read_manifest(own_folder) == manifest


def test_verification_names_every_file_that_differs(own_folder: Path) -> None:
    manifest = read_manifest(own_folder)
    verify_files_or_raise(own_folder, manifest)
    with (own_folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    (own_folder / "vocab.json").unlink()
    with pytest.raises(ModelFileError, match=r"safetensors is not what") as caught:
        verify_files_or_raise(own_folder, manifest)
    assert "vocab.json is missing" in caught.value.message


def test_config_defaults_are_stocks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_args": {}}')
    config = read_config(tmp_path / "config.json")
    assert (config.gpt_width, config.gpt_heads, config.speaker_dim) == (1024, 16, 512)
    assert (config.sampling.temperature, config.sampling.repetition_penalty) == (0.85, 2.0)
    assert config.reference.chunk_s == 4
    assert len(config.languages) == 17


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ('{"model": "xtts", ', "no JSON"),
        ("[]", "no JSON object"),
        ('{"model": "vits", "model_args": {}}', "not the config of an XTTS"),
        ('{"model": "xtts"}', "not the config of an XTTS"),
        ('{"model_args": {"gpt_n_heads": "many"}}', "does not fit"),
        ('{"model_args": {}, "temperature": -1}', "does not fit"),
        ('{"model_args": {}, "gpt_cond_chunk_len": 0}', "gpt_cond_chunk_len"),
    ],
)
def test_a_wrong_config_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_config(path)
    assert str(path) in caught.value.message
