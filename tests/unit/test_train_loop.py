"""The training loop and its checkpoints: resume, budgets, refused steps, damaged files."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from app.errors import OutputError, SettingsError
from train.checkpoints import list_checkpoints, load_newest, save_checkpoint
from train.loop import LoopOptions, fit, rate_at


class LineJob:
    """Fits a line; the batch of a step depends on the step alone."""

    def __init__(self, width: int = 2, bad_steps: tuple[int, ...] = ()) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(width, 1)
        self.steps: list[int] = []
        self._bad = bad_steps

    def losses(self, step: int, process: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(step * 2 + process)
        x = torch.randn(8, self.module.in_features, generator=generator)
        loss = (self.module(x)[:, 0] - x.sum(1)).square().mean()
        return {"loss": loss * float("nan") if step in self._bad else loss}

    def after_step(self, step: int) -> None:
        self.steps.append(step)

    def extra_state(self) -> dict[str, Any]:
        return {"steps": list(self.steps)}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.steps = list(state["steps"])


OPTIONS = LoopOptions(steps=12, rate=0.05, warmup=2, average=0.9)


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def stop_after(count: int) -> Any:
    seen = iter(range(1, 1000))
    return lambda: next(seen) == count


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path, accelerator: Accelerator) -> None:
    whole = LineJob()
    done = fit(whole, tmp_path / "whole", OPTIONS, accelerator)
    assert (done.step, done.finished) == (12, True)

    for count in (5, 3, 100):
        broken = LineJob()
        found = fit(broken, tmp_path / "broken", OPTIONS, accelerator, stop_after(count))
    assert found.finished
    assert broken.steps == list(range(1, 13))
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, broken.module.state_dict()[name])
        assert torch.equal(done.average[name], found.average[name])


def test_a_step_without_a_finite_loss_moves_nothing(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    job = LineJob(bad_steps=(3, 4))
    fit(job, tmp_path, OPTIONS, accelerator)
    assert job.steps == [1, 2, 3, *range(6, 13)]
    assert all(bool(torch.isfinite(p).all()) for p in job.module.parameters())


def test_a_run_that_diverges_stops_with_the_reason(
    tmp_path: Path, accelerator: Accelerator
) -> None:
    options = LoopOptions(steps=100, rate=0.05)
    with pytest.raises(OutputError, match="lower the learning rate"):
        fit(LineJob(bad_steps=tuple(range(100))), tmp_path, options, accelerator)


def test_the_time_budget_ends_a_call(tmp_path: Path, accelerator: Accelerator) -> None:
    options = LoopOptions(steps=10**6, rate=0.05, budget_s=0.2)
    outcome = fit(LineJob(), tmp_path, options, accelerator)
    assert outcome.reason == "time budget"
    assert not outcome.finished
    assert load_newest(tmp_path)["step"] == outcome.step


def test_sigterm_saves_and_returns(tmp_path: Path, accelerator: Accelerator) -> None:
    class Terminated(LineJob):
        def after_step(self, step: int) -> None:
            super().after_step(step)
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    outcome = fit(Terminated(), tmp_path, OPTIONS, accelerator)
    assert outcome.reason == "asked to stop"
    assert load_newest(tmp_path)["step"] == outcome.step == 4
    assert signal.getsignal(signal.SIGTERM) is before


def test_training_of_other_sizes_is_named(tmp_path: Path, accelerator: Accelerator) -> None:
    fit(LineJob(), tmp_path, OPTIONS, accelerator)
    with pytest.raises(SettingsError, match="other sizes"):
        fit(LineJob(width=3), tmp_path, OPTIONS, accelerator)


def test_rate_warms_up_stays_and_falls_to_a_twentieth() -> None:
    options = LoopOptions(steps=100, rate=1.0, warmup=10, flat=0.5)
    rates = [rate_at(step, options) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == [1.0] * 42
    assert rates[75] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.05)


def test_a_damaged_checkpoint_falls_back_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = save_checkpoint(tmp_path, 2, {"step": 2})
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert load_newest(tmp_path) == {"step": 1}
    assert newest.name in caplog.text


def test_old_checkpoints_go(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step}, keep=2)
    assert [path.name[5:13] for path in list_checkpoints(tmp_path)] == ["00000003", "00000002"]
    assert load_newest(tmp_path / "nowhere") is None
