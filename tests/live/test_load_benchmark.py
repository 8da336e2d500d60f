"""The load table at toy size: a real server, real clients, stock beside it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import toy

from benchmarks import energy, load
from benchmarks.card import Card
from benchmarks.full_shape import make_speakable
from benchmarks.load import CPU_CLIENTS, GPU_CLIENTS, Loads, Plan, bench_beside_stock, bench_builtin
from benchmarks.serving import Server
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


def bench_toy(folder: Path, bundle: Path, plan: Plan) -> dict[str, Any]:
    voice = {
        "gpt_cond_latent": toy.voice(0).gpt_latents,
        "speaker_embedding": toy.voice(0).speaker_embedding,
    }

    def load(device: str) -> Stock:
        assert device == "cpu", "stock goes where the server is"
        return Stock(toy.load_stock(bundle), voice)

    return bench_beside_stock(folder, bundle, "ada", plan, load)


def test_stock_says_the_same_sentences(tmp_path: Path, short_bundle: Path) -> None:
    plan = Plan((1, 2), per_client=1, runs=2, stock_clients=(3,))
    found = bench_toy(tmp_path, short_bundle, plan)
    assert (found["device"], found["max_rows"]) == ("cpu", 16)
    assert found["stock_card_mb"] is None
    assert not {"card", "floor"} & set(found)
    for row in (*found["rows"], *found["stock_rows"]):
        assert not {"card_mb", "joules_per_audio_s"} & set(row)
    assert [row["failures"] for row in found["rows"]] == [0, 0]
    kinds = [(row["stock"], row["clients"], row["requests"]) for row in found["stock_rows"]]
    assert kinds == [("whole", 1, 2), ("streamed", 1, 2), ("streamed", 3, 3)]
    whole = found["stock_rows"][0]["wall_s_per_audio_s"]
    ratio = found["ratios"]["throughput_over_stock_whole_at_2"]
    assert ratio == pytest.approx(whole / found["rows"][1]["wall_s_per_audio_s"])
    first = found["rows"][0]["first_audio_p50_s"] / found["stock_rows"][1]["first_audio_p50_s"]
    assert found["ratios"]["first_audio_over_stock"] == pytest.approx(first)


#: 100 W for ever, as the driver's tool prints it.
STEADY = """
import time
from datetime import datetime
while True:
    print(datetime.now().strftime("%Y/%m/%d %H:%M:%S.%f")[:-3] + ", 100.00", flush=True)
    time.sleep(0.05)
"""


def test_a_card_that_tells_its_power_has_joules_and_a_floor(
    tmp_path: Path, short_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card is made up; server, stock, loads and the reading of its power are real."""
    card = Card("a card", "GPU-1", 80 << 30, bytes_per_s=1e12)

    monkeypatch.setattr(load, "_card_of", lambda _server: card)
    command = (sys.executable, "-c", STEADY)
    monkeypatch.setattr(load, "power_meter", partial(energy.power_meter, command=command))
    for name, value in (("_SETTLE_S", 0.0), ("_MEASURE_S", 0.1), ("_MOST_GAP_S", 60.0)):
        monkeypatch.setattr(energy, name, value)
    found = bench_toy(tmp_path, short_bundle, Plan((1, 2), 1, 1, stock_clients=(2,)))
    assert found["card"]["name"] == "a card"
    assert found["floor"]["s_per_audio_s"] > 0
    assert "1 at once took" in load.describe_floor(found)
    for row in (*found["rows"], *found["stock_rows"][:2]):
        assert row["joules_per_audio_s"] > 0
    assert found["stock_rows"][2]["joules_per_audio_s"] is None  # nobody asked for those


def test_a_card_is_asked_for_more_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(load, "put_load", lambda *_: asked.append("warm"))

    def numbers(device: str, clients: tuple[int, ...] = ()) -> list[int]:
        server = Server("", "m", "bfloat16", device, 64, 1.0, process=None)  # type: ignore[arg-type]
        return list(Loads(server, "default", Plan(clients, 1, 1, ()))._loads)

    assert numbers("cpu") == list(CPU_CLIENTS) == [1, 2, 4, 8, 16]
    assert numbers("cuda") == list(GPU_CLIENTS) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert numbers("cuda", (3,)) == [3]
    assert asked == ["warm"] * 3
