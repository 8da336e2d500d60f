"""The floor of a step: bytes of the weights over the speed of a card's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy

from app.models.config import read_config
from benchmarks import card
from benchmarks.card import Floor, copy_bytes_per_s, floor_of


def test_the_floor_counts_what_a_step_reads() -> None:
    folder = toy.toy_folder()
    config = read_config(folder / "config.json")
    state = torch.load(folder / "model.pth", weights_only=True, map_location="cpu")["model"]
    parts = ("gpt.gpt.h.", "gpt.gpt.ln_f.", "gpt.final_norm.", "gpt.mel_head.")
    # stock keeps the causal mask beside the weights in some versions
    numbers = sum(
        tensor.numel()
        for name, tensor in state.items()
        if name.startswith(parts) and not name.endswith((".attn.bias", ".masked_bias"))
    )
    half = floor_of(config, "bfloat16", 1e12)
    assert half.step_bytes == 2 * numbers
    assert half.s_per_audio_s == pytest.approx(2 * numbers / 1e12 * 22050 / 1024)
    assert floor_of(config, "float32", 1e12).step_bytes == 4 * numbers
    assert floor_of(config, "int8 (vocoder bfloat16)", 1e12).step_bytes == numbers


def test_the_floor_is_told_beside_what_was_found() -> None:
    words = Floor(758_000_000, 2.6e12, 0.0063).describe(1, 0.0126)
    assert "0.0063 s for a second of audio (758 MB of weights a token at 2600 GB/s" in words
    assert words.endswith("1 at once took 0.0126, 2.0 times that")


def test_a_copy_is_timed_on_any_device() -> None:
    assert 1e7 < copy_bytes_per_s(torch.device("cpu"), 1 << 22, runs=3) < 1e14


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_without_a_card_there_is_none() -> None:
    assert card.read_card() is None


def test_a_card_that_cannot_be_measured_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(card, "_ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "card.py").write_text("raise SystemExit('CUDA error: 999')\n")
    with pytest.raises(RuntimeError, match=r"could not be measured: CUDA error: 999"):
        card.read_card()
