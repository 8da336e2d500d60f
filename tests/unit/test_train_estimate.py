"""What training would cost: real steps on made-up clips, or the memory that they would need."""

from __future__ import annotations

import pytest
import torch

from app.models.bundles import builtin_folder, read_folder
from app.models.weights import read_state
from app.synthesis.placing import Placement
from train.fit import estimate
from train.fit.estimate import estimate_cost, needed_bytes

BUNDLE = read_folder(builtin_folder(), "builtin")
CPU = Placement(torch.device("cpu"), torch.float32, "device", "a test", ())


def test_a_few_steps_say_what_an_hour_takes() -> None:
    cost = estimate_cost(BUNDLE, CPU)
    assert (cost.model, cost.device, cost.fault) == ("builtin", "cpu", "")
    assert cost.audio_s_per_s > 0.01
    assert cost.hour_s == pytest.approx(3600 / cost.audio_s_per_s, rel=0.1)


def test_a_model_that_does_not_fit_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = needed_bytes(read_state(BUNDLE.weights))
    assert 5e7 < needed < 1e9
    monkeypatch.setattr(estimate, "host_memory", lambda: (needed - 1, 2 * needed))
    monkeypatch.setattr(estimate, "load_network", None)  # must not come to it
    cost = estimate_cost(BUNDLE, CPU)
    assert "of memory, and" in cost.fault
    assert cost.hour_s == 0
