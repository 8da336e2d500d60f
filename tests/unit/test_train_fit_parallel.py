"""Two processes train what one process trains: the same steps, the same losses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fit_runs import Watcher, prepared_clips, run_fit, setup_of, tiny_bundle, weights_of

from app.models.bundles import read_folder
from train.data.prepared import PreparedClips

TESTS = Path(__file__).parents[1]
SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{here!r}, {tests!r}]
from test_train_fit_parallel import train
train(Path({folder!r}))
"""


class Writes(Watcher):
    """Leaves the losses of each step in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def run_ends(self, reason: str) -> None:
        super().run_ends(reason)
        self._path.write_text(json.dumps([(s.losses, s.grad_norm) for s in self.steps]))


def train(folder: Path) -> None:
    import fit_runs
    from accelerate import Accelerator

    fit_runs.cpu_accelerator = lambda: Accelerator(cpu=True)
    clips = PreparedClips.open(next((folder / "clips").glob("run-*.json")))
    options: dict[str, Any] = {"batch_tokens": 300, "accumulation": 3}
    setup = setup_of(read_folder(folder / "base", "tiny"), clips, folder / "out", **options)
    run_fit(setup, Writes(folder / "losses.json"))


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    bundle = tiny_bundle(one / "base")
    # one clip of no numbers: putting it aside is a matter of both
    prepared_clips(one / "clips", bundle, nan=[7])
    shutil.copytree(one, two)
    script = tmp_path / "run.py"
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    for folder, num in ((one, 1), (two, 2)):
        script.write_text(
            SCRIPT.format(here=str(Path(__file__).parent), tests=str(TESTS), folder=str(folder))
        )
        done = subprocess.run(
            [*launch, f"--nproc_per_node={num}", str(script)],
            env={
                **os.environ,
                "ACCELERATE_USE_CPU": "true",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(TESTS.parent),
            },
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((f / "losses.json").read_text()) for f in (one, two))
    assert len(first) == len(second) > 3
    for (losses, norm), (others, other_norm) in zip(first, second, strict=True):
        assert others == pytest.approx(losses, rel=1e-4)
        assert other_norm == pytest.approx(norm, rel=1e-3)
    name = "out/quarantine.json"
    assert [row["name"] for row in json.loads((two / name).read_text())] == ["clip7"]
    assert (one / name).read_text() == (two / name).read_text()
    assert set(weights_of(two / "out/checkpoints/checkpoint_epoch_2.pt"))
