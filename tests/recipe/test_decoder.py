"""Fine-tuning a decoder from the command line: real clips, the built-in model, a spoilt decoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from clip_folders import KATHLEEN
from safetensors.torch import load_file, save_file
from training_runs import BUILTIN

from app.models.bundles import read_folder
from app.models.loading import load_model
from app.models.manifest import hash_files, read_manifest, write_manifest
from train.cli import main

QUIET = "hifigan_decoder.waveform_decoder.conv_post.weight"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The built-in bundle with a decoder that speaks at a third of its level."""
    folder = tmp_path / "models" / "quiet"
    shutil.copytree(BUILTIN, folder)
    state = load_file(folder / "model.safetensors")
    state[QUIET] = state[QUIET] / 3
    save_file(state, folder / "model.safetensors")
    changes = {"name": "quiet", "files": hash_files(folder)}
    write_manifest(folder, read_manifest(folder).model_copy(update=changes))
    return folder


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "MODELS_DIR": tmp_path / "models",
        "CACHE_DIR": tmp_path / "service_cache",
        "TRAIN_CACHE_DIR": tmp_path / "cache",
        "TRAIN_OUTPUT_DIR": tmp_path / "output",
        "TRAIN_RUNS_DIR": tmp_path / "runs",
        "BASE_MODEL": "quiet",
        "EVAL_SHARE": 0.25,
        "DECODER_BATCH": 2,
        "DECODER_RATE": 2e-3,
        "DECODER_EVAL_EVERY": 3,
        "TENSORBOARD": "false",
        "FORCE_CPU": "true",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


def tune(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["decoder", str(KATHLEEN), "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("settings")
def test_a_decoder_is_fine_tuned_and_handed_over(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tune(capsys, "--steps", "6")
    assert result["finished"]
    for name in ("spectral", "drawn_spectral"):
        assert result["after"][name] < result["before"][name]
    assert result["is_better"], result["told"]
    folder = tmp_path / "models" / "quiet-decoder-v1"
    assert Path(result["folder"]) == folder
    model = load_model(read_folder(folder, "quiet-decoder-v1"))  # compares every file's hash
    assert model.voices
    before = load_file(base / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    for name, value in before.items():
        is_decoder = name.startswith("hifigan_decoder.waveform_decoder.")
        assert is_decoder or torch.equal(value, after[name]), name
    assert not torch.equal(before[QUIET], after[QUIET])
    check_what_it_left(tmp_path / "output" / "decoder", result)

    # started again it has nothing to do; other clips or another model are no part of this run
    again = tune(capsys, "--steps", "6")
    assert (again["step"], again["folder"]) == (6, str(folder))
    assert "exported already" in again["told"]
    assert main(["decoder", str(KATHLEEN), "--base", "builtin"]) == 2
    assert "holds the training of another model's decoder" in capsys.readouterr().err


def check_what_it_left(folder: Path, result: dict[str, Any]) -> None:
    report = json.loads((folder / "report.json").read_text())
    assert list(report["held_out"]) == ["3", "6"]
    assert str(result["delay"]) + ": " in report["delay_reason"]
    levels = {}
    for kind in ("reference", "before", "after"):
        samples, rate = soundfile.read(folder / "samples" / f"1_{kind}.wav")
        assert rate == 24000
        levels[kind] = float(np.sqrt(np.mean(samples**2)))
    assert levels["before"] < levels["after"] < 1.2 * levels["reference"]
    assert list((folder.parents[1] / "runs" / "decoder").rglob("events.*"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--steps", "5", "--adversary-steps", "6"), "DECODER_ADVERSARY_STEPS=6 are more than"),
        (("--steps", "0"), "DECODER_STEPS=0 does not fit"),
        (("--to", "."), "exists already"),
        (("--base", "nobody"), "There is no model 'nobody'"),
    ],
)
def test_what_does_not_fit_is_said_at_once(
    arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["decoder", str(KATHLEEN), *arguments]) == 2
    assert told in capsys.readouterr().err
