"""The load table at toy size: a real server, real clients, stock beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy

from benchmarks.full_shape import make_speakable
from benchmarks.load import Plan, bench_beside_stock, bench_builtin
from benchmarks.stock import Stock

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.fixture(scope="module")
def short_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy, made to stop after 40 tokens and to sound, so that no request is refused."""
    folder = toy.build_bundle(tmp_path_factory.mktemp("short"))
    model = toy.load_stock(folder)
    make_speakable(model, stop_after=40, gain=1)
    names = torch.load(folder / "model.pth", weights_only=True)["model"]
    state = model.state_dict()
    torch.save({"model": {name: state[name] for name in names}}, folder / "model.pth")
    return folder


def test_the_builtin_voice_under_load(tmp_path: Path) -> None:
    found = bench_builtin(tmp_path, Plan((1, 3), per_client=1, runs=2, stock_clients=()))
    assert found["ready_s"] > 0
    assert found["precision"]
    for row, clients in zip(found["rows"], (1, 3), strict=True):
        assert (row["clients"], row["requests"], row["failures"]) == (clients, 2 * clients, 0)
        assert 0 < row["first_audio_p50_s"] <= row["first_audio_p95_s"]
        assert row["wall_min"] <= row["wall_s_per_audio_s"] <= row["wall_max"]
        assert row["peak_mb"] > 50
        assert 0 <= row["wer"] < 1.5


def test_stock_says_the_same_sentences(tmp_path: Path, short_bundle: Path) -> None:
    voice = {
        "gpt_cond_latent": toy.voice(0).gpt_latents,
        "speaker_embedding": toy.voice(0).speaker_embedding,
    }
    found = bench_beside_stock(
        tmp_path,
        short_bundle,
        "ada",
        Plan((1, 2), per_client=1, runs=2, stock_clients=(3,)),
        lambda: Stock(toy.load_stock(short_bundle), voice),
    )
    assert [row["failures"] for row in found["rows"]] == [0, 0]
    kinds = [(row["stock"], row["clients"], row["requests"]) for row in found["stock_rows"]]
    assert kinds == [("whole", 1, 2), ("streamed", 1, 2), ("streamed", 3, 3)]
    whole = found["stock_rows"][0]["wall_s_per_audio_s"]
    ratio = found["ratios"]["throughput_over_stock_whole_at_2"]
    assert ratio == pytest.approx(whole / found["rows"][1]["wall_s_per_audio_s"])
    first = found["rows"][0]["first_audio_p50_s"] / found["stock_rows"][1]["first_audio_p50_s"]
    assert found["ratios"]["first_audio_over_stock"] == pytest.approx(first)
