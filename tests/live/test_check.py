"""`python -m app check` on this machine, healthy and with a model that breaks while it speaks."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import soundfile
from faulty_service import RUN

from app.commands import check
from app.messages import Ready
from app.settings import Settings
from app.supervisor.client import EngineClient

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]


async def no_estimate(settings: Settings) -> str:
    """For tests of other things: it takes its time."""
    return ""


@pytest.fixture
def loud_again() -> Iterator[None]:
    """A command silences the program's log for its process, which here is everybody's."""
    yield
    logging.getLogger("app").setLevel(logging.NOTSET)


def test_a_healthy_machine_is_told_what_it_can_do(tmp_path: Path) -> None:
    out = tmp_path / "check"
    done = subprocess.run(
        [sys.executable, "-m", "app", "check", "--json", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "CACHE_DIR": str(tmp_path / "cache"), "FORCE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["valid"]
    assert told["device"] == "cpu"
    assert told["verdict"] == "ok"
    assert "builtin" in told["model_source"]
    assert 0 < told["warmup_s"] < told["start_s"]
    assert told["peak_bytes"] >= told["loaded_bytes"] > 100_000_000
    assert len(told["sentences"]) == 3
    for sentence in told["sentences"]:
        info = soundfile.info(sentence["file"])
        assert info.duration == pytest.approx(sentence["audio_s"], abs=0.001)
        assert 0 < sentence["first_audio_s"] <= sentence["took_s"]
    assert "... trying out the device" in done.stderr
    assert "... speaking sentence 3 of 3" in done.stderr
    table = done.stdout.rpartition("\n{")[0]
    assert table.count(" valid") == 4  # three rows and the sum
    assert "for an hour of clips and an epoch on cpu" in told["training"]


@pytest.mark.usefixtures("loud_again")
def test_an_invalid_output_is_named_and_the_exit_code_is_not_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = psutil.Process().children(recursive=True)  # a server that other tests share

    class BreaksWhenReady(EngineClient):
        def __init__(self, settings: Settings) -> None:
            command = [sys.executable, str(RUN), f"armed:{tmp_path}", "app.worker.process"]
            super().__init__(settings, worker_command=command)

        async def wait_until_ready(self, *args: Any, **kwargs: Any) -> Ready:
            ready = await super().wait_until_ready(*args, **kwargs)
            (tmp_path / "step").write_text("nan")
            return ready

    monkeypatch.setattr(check, "EngineClient", BreaksWhenReady)
    monkeypatch.setattr(check, "estimate_training", no_estimate)
    settings = Settings(_env_file=None, cache_dir=tmp_path / "cache", force_cpu=True)
    code = check.run(argparse.Namespace(json=True, out=tmp_path / "out"), settings)
    assert code == 1
    lines = capsys.readouterr().out.splitlines()
    told = json.loads(lines[-1])
    assert not told["valid"]
    assert "numbers that are none" in told["sentences"][0]["fault"]
    assert "NOT ALL VALID" in lines[-2]
    assert psutil.Process().children(recursive=True) == others
