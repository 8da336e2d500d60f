"""A running training on a stack whose FFT is broken: it goes on as the routes say.

The trainer's own process has the fault from its first moment, so whatever touches `torch.stft`
there raises, hangs or dies; what the probe would have found is remembered already.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from clip_folders import KATHLEEN

from app.devices.fingerprint import fingerprint
from app.devices.probe import cache_path
from app.devices.report import DtypeResult, ProbeReport, Verdict
from app.isolation import child_environment
from app.settings import Settings

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]

RUN = Path(__file__).resolve().parents[1] / "faults" / "run.py"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the clips' cache: what is computed for one run is there for the next."""
    return tmp_path_factory.mktemp("clips")


def remember(cache_dir: Path, verdict: Verdict) -> None:
    report = ProbeReport(
        verdict,
        "cpu",
        "cpu",
        f"the FFT is broken here ({verdict})",
        dtypes=(DtypeResult("float32", True, 1e-6, ""),),
        fft_right=False,
        dft_right=True,
        fingerprint=fingerprint(),
    )
    path = cache_path(Settings(cache_dir=cache_dir), "cpu", fingerprint())
    path.parent.mkdir(parents=True)
    path.write_bytes(report.to_json())


def fit(fault: str, folder: Path, shared: Path) -> subprocess.CompletedProcess[str]:
    environment = child_environment(
        {
            "CACHE_DIR": str(folder / "cache"),
            "TRAIN_CACHE_DIR": str(shared),
            "FORCE_CPU": "true",
            "SCORE_SENTENCES": "0",
            "TENSORBOARD": "false",
            "EXPORT_AT_END": "false",
            "OMP_NUM_THREADS": "1",
        }
    )
    command = [sys.executable, str(RUN), fault, "train", "fit", str(KATHLEEN), "--epochs", "1"]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [("fft_error", "fft_error"), ("fft_hang", "fft_hang"), ("fft_segv", "fft_crash")],
)
def test_training_with_a_broken_fft_ends_with_its_samples(
    tmp_path: Path, shared: Path, fault: str, verdict: Verdict
) -> None:
    remember(tmp_path / "cache", verdict)
    run = fit(fault, tmp_path, shared)
    assert run.returncode == 0, run.stderr
    output = tmp_path / "train" / "output"
    assert (output / "checkpoints" / "checkpoint_epoch_1.pt").is_file()
    told: dict[str, Any] = json.loads((output / "samples" / "epoch_1.json").read_text("utf-8"))
    assert told["verdict"] in ("ok", "retried"), told["notes"]
    assert told["route"] == "cpu_subprocess"
    samples, rate = soundfile.read(output / "samples" / "epoch_1_output.wav")
    assert len(samples) > rate
    assert np.isfinite(samples).all()
    assert abs(samples).max() > 0.05
