"""The whole probe, for real, on the CPU of this machine; its cache; its command."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import app.devices.probe as probe_module
from app.devices.child_run import ChildRun, Deadlines
from app.devices.command import add_probe_arguments, exit_code, run_probe_command
from app.devices.fingerprint import fingerprint
from app.devices.operations import BATCHES, CLIP_LENGTHS_S, NUM_CALLS, STFT_SHAPES
from app.devices.probe import ProbePlan, cache_path, cached_report, forget, probe
from app.devices.progress import OperationBegun
from app.devices.report import ProbeReport
from app.settings import Settings

COLD_LIMIT_S = 20.0
CACHED_LIMIT_S = 0.05


@dataclass(frozen=True)
class Probed:
    """One cold probe of this machine's CPU and what its child told."""

    settings: Settings
    report: ProbeReport
    runs: list[ChildRun]
    took_s: float


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Probed:
    settings = Settings(cache_dir=tmp_path_factory.mktemp("cache"))
    runs: list[ChildRun] = []
    real = probe_module.run_probe_child

    def recorded(argv: Sequence[str], deadlines: Deadlines) -> ChildRun:
        runs.append(real(argv, deadlines))
        return runs[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_module, "run_probe_child", recorded)
        started = time.monotonic()
        report = probe(settings, "cpu")
        return Probed(settings, report, runs, time.monotonic() - started)


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when a child is started."""

    def refuse(*_: object) -> ChildRun:
        raise AssertionError("a child was started")

    monkeypatch.setattr(probe_module, "run_probe_child", refuse)


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_probe_arguments(parser)
    return parser.parse_args(given)


def test_this_cpu_is_right_in_everything(probed: Probed) -> None:
    report = probed.report
    assert (report.verdict, report.device, report.backend) == ("ok", "cpu", "cpu")
    assert report.evidence == ()
    assert all(result.safe for result in report.dtypes)
    assert report.fft_right is True
    assert report.dft_right is True
    assert report.conclusive
    assert not report.cached


def test_report_names_the_stack(probed: Probed) -> None:
    stack = probed.report.stack
    assert stack.torch.startswith("2.7")
    assert stack.platform
    assert (probed.report.free_bytes or 0) > 0
    assert probed.report.fingerprint == fingerprint()
    assert [time.stage for time in probed.report.stages] == [
        *("start", "context", "float32", "bfloat16", "float16", "dft", "fft")
    ]
    assert sum(time.duration_s for time in probed.report.stages) <= probed.took_s


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc here")
def test_fft_library_is_the_one_really_mapped(probed: Probed) -> None:
    assert Path(probed.report.stack.fft_file).is_file()


def test_every_size_batch_and_call_was_tried(probed: Probed) -> None:
    seen = {
        (event.operation, event.batch, event.length_s, event.call)
        for run in probed.runs
        for event in run.events
        if isinstance(event, OperationBegun) and event.call
    }
    assert seen == {
        (shape.name, batch, length_s, call + 1)
        for shape in STFT_SHAPES
        for batch in BATCHES
        for length_s in CLIP_LENGTHS_S
        for call in range(NUM_CALLS)
    }


def test_cold_probe_keeps_its_time(probed: Probed) -> None:
    # Its own stages, as seconds of this machine; other work beside it may stretch them.
    assert probed.took_s < COLD_LIMIT_S * 2
    assert len(probed.runs) == 1


def test_cached_answer_is_the_same_and_quick(probed: Probed, no_child: None) -> None:
    times_s = []
    for _ in range(5):
        started = time.perf_counter()
        report = probe(probed.settings, "cpu")
        times_s.append(time.perf_counter() - started)
        assert report == probed.report.as_cached()
    assert min(times_s) < CACHED_LIMIT_S


def test_another_stack_does_not_get_this_report(
    probed: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cached_report(probed.settings, "cpu") is not None
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/another/cuda")
    assert cached_report(probed.settings, "cpu") is None


def test_another_device_does_not_get_this_report(probed: Probed) -> None:
    assert cached_report(probed.settings, "cuda") is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"verdict":"ok"}', b"\x00\xff"])
def test_damaged_cache_is_no_answer(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(cache_dir=tmp_path)
    path = cache_path(settings, "cpu", fingerprint())
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert cached_report(settings, "cpu") is None
    assert str(path) in caplog.text


def test_forgotten_report_is_gone(probed: Probed, tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path)
    path = cache_path(settings, "cpu", fingerprint())
    path.parent.mkdir(parents=True)
    path.write_bytes(probed.report.to_json())
    assert cached_report(settings, "cpu") is not None
    forget(settings, "cpu")
    assert cached_report(settings, "cpu") is None
    forget(settings, "cpu")  # nothing there is no error


def test_place_that_cannot_be_written_costs_only_the_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    settings = Settings(cache_dir=tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        report = probe(settings, "cpu", plan=ProbePlan(stages=()))
    assert report.device == "cpu"
    assert "can't be remembered" in caplog.text


@pytest.mark.parametrize("device", ["privateuseone:0", "mps"])
def test_device_that_is_not_to_be_had_is_refused_in_words(device: str, tmp_path: Path) -> None:
    report = probe(Settings(cache_dir=tmp_path), device)
    if device == "mps" and report.verdict != "no_gpu":
        pytest.skip("this machine has Metal")
    assert report.verdict == "no_gpu"
    assert ("DirectML" if device != "mps" else "Metal") in report.detail
    assert report.fft_right is None


def test_command_prints_a_table_and_json_last(probed: Probed, no_child: None) -> None:
    lines: list[str] = []
    code = run_probe_command(arguments("--device", "cpu", "--json"), probed.settings, lines.append)
    assert code == 0
    assert lines[0].split() == ["verdict", "ok"]
    assert any(line.startswith("-> synthesis on") for line in lines)
    told = json.loads(lines[-1])
    assert told["verdict"] == "ok"
    assert told["routes"]["device"]["choice"] == "cpu"
    assert told["routes"]["dtype"]["reason"]
    assert told["warnings"] == []


def test_command_without_json_has_no_json(probed: Probed, no_child: None) -> None:
    lines: list[str] = []
    run_probe_command(arguments("--device", "cpu"), probed.settings, lines.append)
    assert not any(line.startswith("{") for line in lines)


def test_exit_codes(probed: Probed) -> None:
    ok = probed.report
    assert exit_code(ok) == 0
    assert exit_code(replace(ok, verdict="no_gpu")) == 0
    assert exit_code(replace(ok, verdict="fft_hang")) == 1
    assert exit_code(replace(ok, verdict="gpu_dead")) == 1
    assert exit_code(replace(ok, verdict="low_memory", conclusive=False)) == 3
