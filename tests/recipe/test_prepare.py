"""`validate` and `prepare` as a user runs them, on real clips, killed and damaged on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from clip_folders import KATHLEEN
from random_dvae import SIZES, random_dvae
from safetensors.torch import save_file

import app
from app.isolation import child_environment
from app.settings import Settings
from train.cli import main
from train.data.pipeline import check_data, prepare_data
from train.data.prepared import PreparedClips
from train.options import TrainingOptions


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in model with a small random DVAE beside it."""
    folder = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(Path(app.__file__).parent / "builtin", folder)
    stride = json.loads((folder / "config.json").read_text())["model_args"]["gpt_code_stride_len"]
    sizes = {**SIZES, "num_layers": (stride // 256).bit_length() - 1}
    shutil.rmtree(folder / "training", ignore_errors=True)
    (folder / "training").mkdir()
    save_file(
        random_dvae(num_layers=sizes["num_layers"]).state_dict(),
        folder / "training" / "dvae.safetensors",
    )
    (folder / "training" / "dvae.json").write_text(json.dumps(sizes))
    return folder


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_CPU", "true")
    return tmp_path


def prepare(base: Path, data: Path = KATHLEEN) -> tuple[int, list[str]]:
    arguments = ["prepare", str(data), "--base", str(base), "--workers", "1", "--json"]
    return main(arguments), arguments


def result_of(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    result: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


def test_validate_says_what_can_be_used(
    in_folder: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(KATHLEEN), "--base", str(base), "--json"]) == 0
    result = result_of(capsys)
    assert result["usable"] is True
    assert (result["num_train"], result["num_eval"]) == (11, 1)
    assert (in_folder / "train" / "output" / "data_report.html").is_file()


def test_validate_refuses_with_code_2(
    in_folder: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = in_folder / "few"
    shutil.copytree(KATHLEEN, few)
    rows = (few / "metadata.csv").read_text().splitlines()
    (few / "metadata.csv").write_text("\n".join(rows[:5]))
    assert main(["validate", str(few), "--base", str(base), "--json"]) == 2
    assert result_of(capsys)["usable"] is False
    assert main(["validate", str(in_folder / "absent"), "--base", str(base)]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_prepare_once_and_find_it_again(
    in_folder: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(base)[0] == 0
    first = result_of(capsys)
    assert (first["num_computed"], first["num_reused"]) == (12, 0)
    clips = PreparedClips.open(Path(str(first["prepared"])))
    assert len(clips) == 12
    for clip in clips:
        codes = clips.codes(clip)
        assert len(codes) == clip.num_codes == -(-clip.num_samples // clips.made_for.stride)
        assert clips.style_mel(clip).shape == (80, clip.num_frames)
        assert np.isfinite(clips.style_mel(clip)).all()
        assert 0 <= codes.min() <= codes.max() < clips.made_for.num_codes
    assert prepare(base)[0] == 0
    second = result_of(capsys)
    assert (second["num_computed"], second["num_reused"]) == (0, 12)
    assert second["prepared"] == first["prepared"]


def test_a_damaged_entry_is_computed_again_with_a_word(
    in_folder: Path,
    base: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare(base)
    clips = PreparedClips.open(Path(str(result_of(capsys)["prepared"])))
    shard = clips.path.parent / clips[0].shard
    content = bytearray(shard.read_bytes())
    content[-1000] ^= 1
    shard.write_bytes(content)
    prepare(base)
    again = result_of(capsys)
    assert (again["num_computed"], again["num_reused"]) == (1, 11)
    assert "damaged and is computed again" in caplog.text
    mended = PreparedClips.open(Path(str(again["prepared"])))
    for clip in mended:
        mended.codes(clip)


def test_a_model_without_a_dvae_is_refused_before_anything_is_read(
    in_folder: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = in_folder / "bare"
    shutil.copytree(base, bare)
    shutil.rmtree(bare / "training")
    assert prepare(bare)[0] == 2
    assert "has no DVAE" in capsys.readouterr().err
    assert not (in_folder / "train").exists()


def test_a_file_that_changes_or_goes_on_the_way_is_left_out(
    in_folder: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = in_folder / "voice"
    shutil.copytree(KATHLEEN, data)
    settings = Settings(force_cpu=True)
    options = TrainingOptions(data=data, base_model=str(base), train_cache_dir=in_folder / "cache")
    checked = check_data(settings, options)
    assert checked.split is not None
    gone, changed, *_ = (clip.sample.audio for clip in checked.split.train)
    shutil.copyfile(checked.split.train[5].sample.audio, changed)
    gone.unlink()
    made = prepare_data(settings, options, checked)
    assert len(made.lost) == 2
    assert len(made.clips) == 10
    assert "can't be read any more" in caplog.text
    assert "changed while it was worked on" in caplog.text


@pytest.mark.slow
def test_nothing_of_the_result_depends_on_the_number_of_processes(
    in_folder: Path, base: Path
) -> None:
    settings = Settings(force_cpu=True)
    many = in_folder / "many"
    shutil.copytree(KATHLEEN, many)
    double_rows(many)
    made = []
    for workers in (1, 2):
        options = TrainingOptions(
            data=many,
            base_model=str(base),
            train_cache_dir=in_folder / f"cache{workers}",
            data_workers=workers,
        )
        made.append(prepare_data(settings, options, check_data(settings, options)).clips)
    assert made[0].identity == made[1].identity
    for one, two in zip(*made, strict=True):
        assert np.array_equal(made[0].codes(one), made[1].codes(two))
        assert np.array_equal(made[0].style_mel(one), made[1].style_mel(two))


def double_rows(folder: Path, times: int = 3) -> None:
    """Makes more clips of the same texts: each copy is a little quieter, so no audio repeats."""
    import soundfile

    rows = (folder / "metadata.csv").read_text().splitlines()
    more = []
    for number in range(1, times):
        for row in rows:
            name, rest = row.split("|", 1)
            samples, rate = soundfile.read(folder / "wavs" / f"{name}.flac")
            quieter = samples * 0.9**number
            soundfile.write(folder / "wavs" / f"{name}_{number}.flac", quieter, rate)
            more.append(f"{name}_{number}|{rest}")
    (folder / "metadata.csv").write_text("\n".join([*rows, *more]))


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(in_folder: Path, base: Path) -> None:
    many = in_folder / "many"
    shutil.copytree(KATHLEEN, many)
    double_rows(many)
    command = [sys.executable, "-m", "train", "prepare", str(many), "--base", str(base)]
    for seconds in (3.0, 6.0, 9.0):
        kill_after(command, seconds, in_folder)
    ended = subprocess.run(
        [*command, "--json"], cwd=in_folder, env=environment(), capture_output=True, check=True
    )
    result = json.loads(ended.stdout.splitlines()[-1])
    clips = PreparedClips.open(Path(result["prepared"]))
    assert len(clips) == 36
    for clip in clips:
        assert len(clips.codes(clip)) == clip.num_codes
    left = [p.name for p in (in_folder / "train").rglob("*.part")]
    assert len(left) <= 3, left


def kill_after(command: Sequence[str], seconds: float, folder: Path) -> None:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment() -> dict[str, str]:
    return child_environment({"FORCE_CPU": "true"})
