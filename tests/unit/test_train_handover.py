"""A run's checkpoint as a bundle: what is in it, what it says of itself, that it speaks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from toy import toy_folder
from training_runs import BUILTIN, PASSED, listen_plan, text_score, write_checkpoint

from app.errors import InputError, NotFoundError, SettingsError
from app.messages import Audio, Done, Failed, Speak
from app.models.bundles import XTTS_V2_LICENCE, find_bundle, list_bundles, read_folder
from app.models.manifest import read_manifest
from app.settings import Settings
from app.synthesis.opening import open_synthesizer
from train.cli import main
from train.epochs.history import EpochRecord, History
from train.epochs.job import ListenPlan
from train.epochs.judge import Best
from train.epochs.keeping import remember_best
from train.handover.export import Handover, export_bundle, next_free_name, voice_name
from train.handover.licence import notice_for
from train.handover.of_run import export_finished, export_run


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The output folder of a run of two epochs, of which the first is the best."""
    folder = tmp_path / "output"
    history = History(folder, listen_plan(tmp_path), is_new=True)
    for epoch in (1, 2):
        path = write_checkpoint(folder / "checkpoints", epoch, noise=0.01)
        texts = (text_score("a", 0.5), text_score("b", 0.6))
        history.put(
            EpochRecord(
                epoch, 10 * epoch, path.name, {}, {"loss": 3.0}, 1, PASSED, texts, {"value": 0.55}
            )
        )
    remember_best(folder / "checkpoints", Best(1, "checkpoint_epoch_1.pt", "a test"))
    return folder


def test_the_bundle_speaks_in_the_trained_voice(output: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    folder = export_run(output, models)
    assert folder == models / "kathleen-v1"
    settings = Settings(models_dir=models, default_model="kathleen-v1", force_cpu=True)
    assert [bundle.name for bundle in list_bundles(settings)] == ["builtin", "kathleen-v1"]
    synthesizer = open_synthesizer(settings, lambda stage, device="": None)
    info = synthesizer.info
    assert (info.version, info.licence, info.default_voice) == ("epoch-1", "CC0-1.0", "kathleen")
    parts: list[Audio | Done | Failed] = []
    synthesizer.submit(
        Speak(id="1", text="The wind rose.", voice="kathleen", language="en", seed=1), parts.append
    )
    while synthesizer.step():
        pass
    assert isinstance(parts[-1], Done), parts[-1]


def test_the_bundle_holds_what_was_trained(output: Path, tmp_path: Path) -> None:
    folder = export_run(output, tmp_path / "models", checkpoint="2", to=tmp_path / "second")
    weights = load_file(folder / "model.safetensors")
    trained = torch.load(output / "checkpoints" / "checkpoint_epoch_2.pt")["model"]
    assert weights.keys() == trained.keys()
    for name, value in weights.items():
        assert value.dtype == (torch.float32 if name == "mel_stats" else torch.float16)
        torch.testing.assert_close(value.float(), trained[name], rtol=1e-3, atol=1e-6)
    manifest = read_manifest(folder)
    assert (manifest.name, manifest.version, manifest.front_end) == (
        "second",
        "epoch-2",
        "phonemes",
    )
    assert manifest.scores == {"value": 0.55, "scored_texts": 2, "evaluation_loss": 3.0}
    assert manifest.data[-1].name == "kathleen"
    assert {"model.safetensors", "voices/kathleen.safetensors", "NOTICE.txt"} <= set(manifest.files)
    assert (folder / "training" / "dvae.safetensors").is_file()  # to be trained further
    assert "CC0-1.0" in (folder / "NOTICE.txt").read_text(encoding="utf-8")


def test_a_stock_base_becomes_a_bundle_too(tmp_path: Path) -> None:
    base = replace(read_folder(toy_folder(), "toy"), licence=XTTS_V2_LICENCE)
    checkpoint = tmp_path / "checkpoint_epoch_1.pt"
    checkpoint.write_bytes((toy_folder() / "model.pth").read_bytes())
    recordings = [text.recording for text in listen_plan(tmp_path).scored]
    handover = Handover(checkpoint, base, recordings, "Ada Þ", "pt", "epoch-1", "clips", 0.5)
    folder = export_bundle(handover, tmp_path / "models" / "ada")
    manifest = read_manifest(folder)
    assert manifest.licence == XTTS_V2_LICENCE
    assert list(manifest.voices) == ["ada"]
    assert "non-commercial" in (folder / "NOTICE.txt").read_text(encoding="utf-8")
    settings = Settings(models_dir=folder.parent, default_model="ada", force_cpu=True)
    assert open_synthesizer(settings, lambda stage, device="": None).info.default_voice == "ada"


def test_an_unstated_licence_is_said_to_be_unstated() -> None:
    notice = notice_for(replace(read_folder(BUILTIN, "mine"), licence="", version=""))
    assert "Licence of mine: not stated." in notice
    assert "Find out" in notice


def test_nothing_is_overwritten_and_nothing_is_left_of_a_failure(
    output: Path, tmp_path: Path
) -> None:
    target = tmp_path / "models" / "mine"
    target.mkdir(parents=True)
    with pytest.raises(SettingsError, match="exists already"):
        export_run(output, tmp_path / "models", to=target)
    plan = listen_plan(tmp_path)
    gone = msgspec.structs.replace(plan, reference="gone.wav", scored=())
    rewrite(output, gone)
    with pytest.raises(InputError, match="None of the held-out recordings"):
        export_run(output, tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["mine"]


def rewrite(output: Path, plan: ListenPlan) -> None:
    content = json.loads((output / "epochs.json").read_text())
    content["plan"] = msgspec.to_builtins(plan)
    (output / "epochs.json").write_text(json.dumps(content))


def test_a_finished_run_is_exported_once(output: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    assert "kathleen-v1" in export_finished(output, models, "")
    assert "exported already" in export_finished(output, models, "")
    remember_best(output / "checkpoints", Best(2, "checkpoint_epoch_2.pt", "better"))
    assert "kathleen-v2" in export_finished(output, models, "")
    remember_best(output / "checkpoints", Best(1, "checkpoint_epoch_1.pt", "better again"))
    assert "No bundle was made" in export_finished(output, models, "kathleen-v2")
    assert sorted(path.name for path in models.iterdir()) == ["kathleen-v1", "kathleen-v2"]


def test_the_command_says_how_to_speak_and_what_is_wrong(
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--output", str(output), "--to", "mine", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "DEFAULT_MODEL=mine python -m app speak" in shown
    assert json.loads(shown.splitlines()[-1])["voices"] == ["kathleen"]
    assert find_bundle("mine", Settings(models_dir=tmp_path)).version == "epoch-1"
    for arguments, words in (
        (["--checkpoint", "7"], "epochs there are 1, 2"),
        (["--output", "absent"], "no training run"),
    ):
        assert main(["export", "--output", str(output), *arguments]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("speaker", "name"),
    [("Ada Lovelace", "ada-lovelace"), ("", "speaker"), ("../x", "x"), ("日本", "speaker")],
)
def test_voice_names(speaker: str, name: str) -> None:
    assert voice_name(speaker) == name


def test_names_count_up(tmp_path: Path) -> None:
    assert next_free_name(tmp_path, "ada") == "ada-v1"
    (tmp_path / "ada-v1").mkdir()
    assert next_free_name(tmp_path, "ada") == "ada-v2"


def test_a_checkpoint_that_is_none_is_refused(output: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"not a checkpoint")
    with pytest.raises(Exception, match=r"bad\.pt"):
        export_run(output, tmp_path / "models", checkpoint=str(bad))
    with pytest.raises(NotFoundError):
        export_run(output, tmp_path / "models", checkpoint="best.pt")
