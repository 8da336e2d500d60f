"""Which number format a fine-tuning computes in, and that both give the same losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fit_runs import placed_on_cpu, prepared_clips, tiny_bundle

from app.models.config import read_config
from app.models.weights import read_state
from train.fit import setup
from train.fit.batch import Layout, collate, draw_rows
from train.fit.network import load_network


@pytest.mark.parametrize(
    ("wanted", "has_units", "expected"),
    [
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
        ("int8", True, "bfloat16"),
        ("float32", True, "float32"),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, wanted: str, has_units: bool, expected: str
) -> None:
    monkeypatch.setattr(setup, "has_bfloat16_units", lambda: has_units)
    choice = setup.choose_precision(placed_on_cpu(), wanted)
    assert (choice.value, bool(choice.reason)) == (expected, True)


def test_bfloat16_that_was_asked_for_is_taken_without_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(setup, "has_bfloat16_units", lambda: False)
    placement = replace(placed_on_cpu(), dtype=torch.bfloat16)
    assert setup.choose_precision(placement, "bfloat16").value == "bfloat16"


def test_losses_and_gradients_in_bfloat16_are_those_of_float32(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "base")
    clips = prepared_clips(tmp_path / "clips", bundle)
    network = load_network(
        read_state(bundle.weights), read_config(bundle.config, bundle.decoder), bundle.weights
    )
    sizes = network.sizes
    layout = Layout(3, 0, 1024, 1025, sizes.num_text_tokens, sizes.text_positions, 1024)
    rows = draw_rows(clips.side("train"), [0, 1, 2], (1, 0, 0))
    batch = collate(rows, clips, torch.ones(80), layout)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
            losses = network(batch)
        losses.mel_sum.backward()
        gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        assert all(gradient.dtype is torch.float32 for gradient in gradients)
        found.append((float(losses.mel_sum), torch.cat(gradients)))
    (loss, gradient), (half_loss, half_gradient) = found
    assert half_loss == pytest.approx(loss, rel=5e-3)
    assert torch.cosine_similarity(gradient, half_gradient, dim=0) > 0.99
