"""Two training processes against one that sees both their batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from train.checkpoints import load_newest
from train.loop import LoopOptions, fit

STEPS = 5
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_train_parallel import train
train(Path({folder!r}), both=False)
"""


class HalfJob:
    """Fits a line; each process draws its own batch, or one process draws both."""

    def __init__(self, *, both: bool) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(3, 1)
        self._both = both

    def losses(self, step: int, process: int) -> dict[str, Tensor]:
        parts = (0, 1) if self._both else (process,)
        return {"loss": torch.stack([self._loss(step, part) for part in parts]).mean()}

    def _loss(self, step: int, part: int) -> Tensor:
        generator = torch.Generator().manual_seed(step * 2 + part)
        x = torch.randn(8, 3, generator=generator)
        return (self.module(x)[:, 0] - x.sum(1)).square().mean()

    def after_step(self, step: int) -> None:
        pass

    def extra_state(self) -> dict[str, Any]:
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        pass


def train(folder: Path, *, both: bool) -> None:
    options = LoopOptions(steps=STEPS, rate=0.05, warmup=1)
    fit(HalfJob(both=both), folder, options, Accelerator(cpu=True))


@pytest.mark.slow
def test_two_processes_train_what_one_trains_with_both_batches(tmp_path: Path) -> None:
    # accelerate keeps one state a process, and another test's may compute in bfloat16
    AcceleratorState._reset_state(reset_partial_state=True)
    train(tmp_path / "one", both=True)
    script = tmp_path / "half.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent), folder=str(tmp_path / "two")))
    launch = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [*launch, str(script)], env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = load_newest(tmp_path / "one"), load_newest(tmp_path / "two")
    assert one["step"] == two["step"] == STEPS
    for name, value in one["module"].items():
        torch.testing.assert_close(value, two["module"][name], rtol=1e-5, atol=1e-6)
