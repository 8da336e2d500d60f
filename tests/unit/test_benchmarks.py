"""The benchmarks at toy size: they measure what they say they measure, on both sides."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import toy
from matplotlib import pyplot as plt

from app.engine.types import Conditioning, SpeechModel
from benchmarks import draw
from benchmarks.clients import Load, Reply, summarise
from benchmarks.growth import StockGeneration, measure, stream_ours, stream_stock
from benchmarks.precision import measure as measure_precision
from benchmarks.precision import paired
from benchmarks.sentences import MOST, make_sentences
from benchmarks.stock_parity import TOKEN_IDS, FixedText, compare
from benchmarks.stopwatch import Stopwatch

TOKEN_S = 1024 / 22050  # seconds of one audio token
STOP = 1025


@pytest.fixture(scope="module")
def stock() -> Any:
    """Stock's model of the toy, which never stops by itself."""
    model = toy.load_stock(toy.toy_folder())
    model.tokenizer = FixedText(TOKEN_IDS)
    model.gpt.mel_head.bias.data[STOP] = -1e4
    return model


@pytest.fixture(scope="module")
def ours() -> SpeechModel:
    return toy.load_toy(toy.toy_folder(), {"gpt.mel_head.bias": {STOP: -1e4}})


@pytest.fixture(scope="module")
def voice() -> Conditioning:
    return toy.voice(0)


def test_a_stock_generation_costs_its_chunks_and_the_last_one_again() -> None:
    made = StockGeneration([20, 40, 60], [1.0, 3.0, 6.0], [0.5, 1.75, 4.0])
    assert made.cost(20) == (1.5, 1.0)
    assert made.cost(40) == (3 + 1.25, 1.75 + 1.25)
    with pytest.raises(ValueError, match="50"):
        made.cost(50)


def test_stock_vocodes_everything_again_at_each_chunk(stock: Any, voice: Conditioning) -> None:
    made = stream_stock(stock, voice, 60)
    assert made.tokens == [20, 40, 60, 60]
    assert sorted(made.elapsed_s) == made.elapsed_s
    assert made.vocoder_s[-1] < made.elapsed_s[-1]
    # up to a chunk, a long generation is a short one
    assert stream_stock(stock, voice, 40).tokens == [20, 40, 40]
    assert stream_stock(stock, voice, 60, num_chunks=1).tokens == [20]


def test_ours_speaks_all_pieces(ours: SpeechModel, voice: Conditioning) -> None:
    spoken = stream_ours(ours, voice, (40, 20))
    assert spoken.audio_s == pytest.approx(60 * TOKEN_S, rel=0.02)
    assert 0 < spoken.first_s < spoken.total_s


def test_growth_has_a_row_for_each_length(
    stock: Any, ours: SpeechModel, voice: Conditioning
) -> None:
    found = measure(stock, ours, voice, ((20,), (40, 40)), (20, 40, 60), runs=2, first_runs=1)
    assert [row["pieces"] for row in found.texts] == ["1 x 20", "2 x 40"]
    assert [row["pieces"] for row in found.generations] == ["1 x 20", "1 x 40", "1 x 60"]
    for row in (*found.texts, *found.generations):
        assert row["ours_min_s"] <= row["ours_s"] <= row["ours_max_s"]
        assert row["ratio"] == pytest.approx(row["stock_s"] / row["ours_s"])
    two, one = found.texts[1], found.generations[1]
    assert two["stock_s"] == pytest.approx(2 * one["stock_s"])
    grown = found.generations[2]["stock_s"] / found.generations[0]["stock_s"]
    assert 3 ** found.exponents["generations_stock"] == pytest.approx(grown, rel=0.05)


@pytest.fixture(scope="module")
def sampled() -> Any:
    model = toy.load_stock(toy.toy_folder())
    model.tokenizer = FixedText(TOKEN_IDS)
    return model


def test_parity_compares_the_same_request(sampled: Any) -> None:
    model = toy.toy_model()
    found = compare(sampled, model, model, "float32", num_tokens=24, runs=2)
    assert found.tokens_equal
    assert found.max_relative_difference <= 1e-3
    assert found.audio_s == pytest.approx(24 * TOKEN_S, rel=0.02)
    assert set(found.stock.stages_s) == {"decode", "second pass", "vocoder"}
    assert set(found.fast.stages_s) == {"prefill", "decode", "vocoder"}
    for times in (found.stock, found.float32, found.fast):
        assert times.min_s <= times.median_s <= times.max_s
        assert times.s_per_audio_s == pytest.approx(times.median_s / found.audio_s)
        assert sum(times.stages_s.values()) <= times.max_s
    assert found.fast_ratio == pytest.approx(found.stock.median_s / found.fast.median_s)


def test_parity_tells_other_weights(sampled: Any) -> None:
    other = toy.load_toy(toy.toy_folder(), {"gpt.mel_head.bias": {7: 30.0}})
    found = compare(sampled, other, toy.toy_model(), "float32", num_tokens=24, runs=1)
    assert not found.tokens_equal
    assert found.max_relative_difference > 1e-3


def test_runs_are_summed_up() -> None:
    second = bytes(2 * 24000)
    replies = [Reply("a", 0.1 * number, 1.0, second) for number in range(1, 4)]
    failed = Reply("a", math.nan, 0.2, b"", "503")
    loads = [Load(2, 4.0, replies[:2]), Load(2, 1.0, [replies[2], failed]), Load(2, 3.0, replies)]
    row = summarise(loads)
    assert (row["clients"], row["runs"], row["requests"], row["failures"]) == (2, 3, 7, 1)
    assert row["first_audio_p50_s"] == pytest.approx(0.2)
    assert row["first_audio_p95_s"] == pytest.approx(0.3)
    assert (row["wall_min"], row["wall_s_per_audio_s"], row["wall_max"]) == (1.0, 1.0, 2.0)
    assert row["audio_s_per_s"] == 1.0


def test_a_load_that_failed_is_no_number() -> None:
    row = summarise([Load(1, 1.0, [Reply("a", math.nan, 1.0, b"", "503")])])
    assert row["failures"] == 1
    assert math.isnan(row["wall_s_per_audio_s"])


def test_stages_add_up() -> None:
    class Owner:
        def work(self, number: int) -> int:
            return 2 * number

    watch, owner = Stopwatch(), Owner()
    with watch.on(owner, "work", "double"):
        assert [owner.work(2), owner.work(3)] == [4, 6]
    counted = watch.seconds["double"]
    assert counted > 0
    owner.work(1)
    assert watch.seconds["double"] == counted


def test_sentences_differ() -> None:
    assert len(set(make_sentences(MOST))) == MOST
    assert len({sentence.split()[-1] for sentence in make_sentences(10)}) == 10
    assert max(map(len, make_sentences(MOST))) <= 75, "a segment of the built-in voice"
    with pytest.raises(ValueError, match=str(MOST)):
        make_sentences(MOST + 1)


def test_differences_are_paired() -> None:
    mean, error = paired([1.0, 2.0, 6.0], [0.0, 1.0, 2.0])
    assert mean == 2.0
    assert error == pytest.approx(math.sqrt(3) / math.sqrt(3))


def test_precision_of_float32_is_exact() -> None:
    (row,) = measure_precision(["float32"], "builtin", "", 2)
    assert row["top1_agreement"] == 1
    assert row["kl_mean"] == pytest.approx(0, abs=1e-6)
    assert row["wer_difference"] == row["mean_s_difference"] == 0
    assert row["mean_s"] > 0.5


def test_pictures_are_drawn_from_json_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"clients": 1, "first_audio_p50_s": 0.3, "first_audio_p95_s": 0.4, "audio_s_per_s": 2.0}
    stock = [{**row, "stock": kind} for kind in ("whole", "streamed")]
    long = {"audio_s": 5.0, "stock_s": 30.0, "stock_vocoder_s": 9.0, "ours_s": 3.0}
    load, growth = tmp_path / "load.txt", tmp_path / "growth.txt"
    load.write_text(f"a table\n{json.dumps({'full': {'rows': [row], 'stock_rows': stock}})}\n")
    growth.write_text(json.dumps({"texts": [long], "generations": [long]}))
    monkeypatch.setattr("sys.argv", ["draw", str(load), str(growth), "--to", str(tmp_path)])
    draw.main()
    for name in ("performance-load.png", "performance-growth.png"):
        picture = plt.imread(tmp_path / name)
        assert picture.shape[1] > 400
        assert picture.std() > 0.01, "nothing was drawn"

    load.write_text("Killed\n")
    with pytest.raises(SystemExit) as ended:
        draw.main()
    assert ended.value.code == 2
    assert "load.txt does not end in" in capsys.readouterr().err
