"""Faults of disk, cache and data in the middle of a run: each has its word, and nothing is lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_runs import Watcher, prepared_clips, run_fit, setup_of, tiny_bundle

from app.errors import OutputError
from app.isolation import child_environment
from app.models.bundles import Bundle
from train.checkpoints import list_checkpoints, load_newest, save_checkpoint
from train.data.shards import Shard
from train.fit.lora import merged_state

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """No file of this process may grow further than that: writes fail as the system fails them."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


class Fills(Watcher):
    """Fills the disk at a step, and perhaps makes room at a later one."""

    def __init__(self, full_at: int, room_at: int = 10**9) -> None:
        super().__init__()
        self._full_at, self._room_at = full_at, room_at
        self._full: Any = None

    def step_done(self, facts: Any) -> None:
        super().step_done(facts)
        if facts.step == self._full_at:
            self._full = full_disk(10_000)
            self._full.__enter__()
        if facts.step == self._room_at:
            self.make_room()

    def make_room(self) -> None:
        if self._full is not None:
            self._full.__exit__(None, None, None)
            self._full = None


def test_a_full_disk_for_a_while_costs_nothing(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clips = prepared_clips(tmp_path / "clips", bundle)
    options: dict[str, Any] = {"batch_tokens": 250, "num_epochs": 1}
    whole = run_fit(setup_of(bundle, clips, tmp_path / "whole", **options))
    setup = setup_of(bundle, clips, tmp_path / "out", save_every_min=1e-6, **options)
    watcher = Fills(full_at=2, room_at=4)
    try:
        result = run_fit(setup, watcher)
    finally:
        watcher.make_room()
    assert result.finished
    assert result.history == whole.history
    assert "step 2 is not saved; what was saved before is whole" in caplog.text
    assert "Training goes on" in caplog.text


def test_a_full_disk_at_the_end_of_an_epoch_stops_and_keeps_what_was_saved(
    bundle: Bundle, tmp_path: Path
) -> None:
    clips = prepared_clips(tmp_path / "clips", bundle)
    options: dict[str, Any] = {"batch_tokens": 250, "num_epochs": 2}
    whole = run_fit(setup_of(bundle, clips, tmp_path / "whole", **options))
    output = tmp_path / "out"
    watcher = Fills(full_at=3)
    try:
        with pytest.raises(OutputError, match=r"checkpoint_epoch_1\.pt can't be written"):
            run_fit(setup_of(bundle, clips, output, save_every_min=1e-6, **options), watcher)
    finally:
        watcher.make_room()
    assert watcher.ends[0].startswith("ended by an error")
    assert not list((output / "checkpoints").glob("*.pt"))
    assert not list(output.rglob(".*.part"))
    again = Watcher()
    result = run_fit(setup_of(bundle, clips, output, **options), again)
    assert again.steps[0].step == 3
    assert result.history == whole.history


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        small = {"value": torch.zeros(60_000)}
        save_checkpoint(disk, 1, small)
        save_checkpoint(disk, 2, small)
        # there is room for a third only where the first was
        save_checkpoint(disk, 3, {"value": torch.ones(140_000)})
        assert [path.name[5:13] for path in list_checkpoints(disk)] == ["00000003", "00000002"]
        with pytest.raises(OutputError, match="No space left on device"):
            save_checkpoint(disk, 4, {"value": torch.ones(400_000)})
        newest = load_newest(disk)
        assert newest is not None
        assert torch.equal(newest["value"], torch.ones(140_000))
        assert not list(disk.glob(".*.part"))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_output_folder_that_can_not_be_written_to() -> None:
    """As a user who may not; root, who may write anywhere, becomes somebody else first."""
    code = (
        "import os, sys, pathlib\n"
        "from train.fit.setup import check_output_or_raise\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "check_output_or_raise(pathlib.Path(sys.argv[1]))\n"
    )
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        ended = subprocess.run(
            [sys.executable, "-c", code, f"{name}/out"],
            cwd=ROOT,
            env=child_environment({}),
            capture_output=True,
            text=True,
            check=False,
        )
        Path(name).chmod(0o755)
    assert "SettingsError: TRAIN_OUTPUT_DIR" in ended.stderr
    assert "can't be written to (Permission denied)" in ended.stderr
    assert "Nothing was started" in ended.stderr


def test_a_damaged_cache_entry_is_put_aside_and_taken_back_once_made_again(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clips = prepared_clips(tmp_path / "clips", bundle)
    shard = tmp_path / "clips" / clips[0].shard
    good = shard.read_bytes()
    place = good.index(Shard(shard).read(clips[4].key).style_mel.tobytes())
    shard.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    options: dict[str, Any] = {"num_epochs": 1}
    result = run_fit(setup_of(bundle, clips, tmp_path / "out", **options))
    assert [aside["kind"] for aside in result.quarantined] == ["cache_damaged"]
    assert "clip4 is put aside" in caplog.text
    assert "python -m train prepare" in result.quarantined[0]["reason"]

    shard.write_bytes(good)
    clips = type(clips).open(clips.path)
    again = run_fit(setup_of(bundle, clips, tmp_path / "out", num_epochs=2))
    assert again.quarantined == ()
    assert "clip4 was prepared again" in caplog.text


def test_recordings_are_not_needed_while_training(bundle: Bundle, tmp_path: Path) -> None:
    """A clip that is deleted in the middle of a run is no matter: its arrays are prepared."""
    clips = prepared_clips(tmp_path / "clips", bundle)
    assert not any(Path(clip.audio).exists() for clip in clips)
    result = run_fit(setup_of(bundle, clips, tmp_path / "out"))
    assert result.finished
    assert result.quarantined == ()


def test_no_clock_that_can_be_set_decides_anything() -> None:
    sources = [*(ROOT / "train" / "fit").glob("*.py"), ROOT / "train" / "checkpoints.py"]
    for path in sources:
        text = path.read_text()
        assert "time.time(" not in text, path
        assert "st_mtime" not in text, path
        assert "datetime.now" not in text, path


def test_adapters_change_few_numbers_and_merge_into_a_plain_model(
    bundle: Bundle, tmp_path: Path
) -> None:
    clips = prepared_clips(tmp_path / "clips", bundle)
    full = setup_of(bundle, clips, tmp_path / "full")
    setup = setup_of(bundle, clips, tmp_path / "out", lora_rank=4, learning_rate=1e-2)
    plain = {name: value.clone() for name, value in full.network.state_dict().items()}
    assert all(torch.equal(plain[n], v) for n, v in merged_state(setup.network).items())
    result = run_fit(setup)
    assert result.history[-1]["train"]["loss"] < result.history[1]["train"]["loss"]
    merged = merged_state(setup.network)
    assert set(merged) == set(plain)
    changed = {name for name in plain if not torch.equal(plain[name], merged[name])}
    layers = [
        f"gpt.h.{i}.{part}.weight"
        for i in range(2)
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]
    assert changed == set(layers)
    # the merged weights do what weights and adapters did apart
    full.network.load_state_dict(merged)
    from train.fit.held_out import HeldOut

    judge = HeldOut(clips, clips.side("eval"), setup.stats, setup.layout, 400)
    apart = judge.losses(setup.network, setup.accelerator, setup.pieces)
    assert judge.losses(full.network, full.accelerator, full.pieces) == pytest.approx(
        apart, rel=1e-5
    )
    size = sum(path.stat().st_size for path in list_checkpoints(tmp_path / "out" / "state")[:1])
    whole = sum(value.numel() for value in plain.values()) * 12
    assert size < whole / 2
    shutil.rmtree(tmp_path / "out")
