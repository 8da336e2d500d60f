"""The decoder for CUDA devices, on the CPU: the plain decoder's numbers and the slow path's.

What is recorded here is the run itself, called again at each replay; CUDA's own recordings are
held to the same in `test_engine_graph_gpu.py`.
"""

from __future__ import annotations

import weakref
from dataclasses import replace

import pytest
import torch
import toy
from graph_card import compare, compare_prefills, distance
from graph_recorders import Again
from graph_rows import draw_greedily, make_decoder, start, toy_gpt

from app.engine import scheduler
from app.engine.cache_pool import PooledRow
from app.engine.decoder import GptDecoder, StepOutput
from app.engine.gpt_weights import GptWeights
from app.engine.graph_decoder import GraphDecoder
from app.engine.growing_cache import GrowingCache
from app.engine.guidance import GuidedDecoder
from app.engine.reference import ReferenceDecoder
from app.engine.run_graphs import RunGraphs
from app.engine.types import DecodeOptions, SegmentDone, SegmentJob
from app.models import footprint

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunGraphs, "distrusted", {})


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize("num_rows", [1, 4, 16])
def test_rows_that_enter_and_leave_draw_the_plain_decoders_tokens(
    num_rows: int, is_recorded: bool
) -> None:
    recorder = Again() if is_recorded else None
    decoder = make_decoder(num_rows, recorder)
    drawn = draw_greedily(decoder, num_rows, 40)
    assert len(drawn) == num_rows
    assert drawn == draw_greedily(GptDecoder(toy_gpt()), num_rows, 40)
    if recorder:
        assert RunGraphs.distrusted == {}
        assert decoder.num_graphs >= min(num_rows, 2)
        assert recorder.num_replayed > 2 * recorder.num_recorded


def test_a_row_draws_the_slow_paths_tokens() -> None:
    weights = toy_gpt()
    drawn = draw_greedily(make_decoder(4, Again()), 4, 20)
    assert drawn == draw_greedily(ReferenceDecoder(weights), 4, 20)


def test_all_numbers_are_close_to_the_plain_decoders_at_every_length() -> None:
    """To the end of the longest row there can be, beside one that pauses there."""
    weights = toy_gpt()
    sizes = weights.sizes
    ours, plain = make_decoder(2, Again()), GptDecoder(weights)
    ids = tuple(index % 20 + 5 for index in range(sizes.max_text_tokens))
    voice = toy.voice(1).gpt_latents
    (row, given), (other, expected) = ours.prefill(ids, voice), plain.prefill(ids, voice)
    assert distance(given, expected) < 1e-4
    for step in range(sizes.max_audio_tokens):
        given, expected = ours.step([row], [step]), plain.step([other], [step])
        assert distance(given, expected) < 1e-4
    (late, _), (later, _) = start(ours, 2), start(plain, 2)
    for step in range(5):
        assert distance(ours.step([late], [step]), plain.step([later], [step])) < 1e-4


def test_a_row_that_pauses_goes_on_as_if_it_had_not() -> None:
    ours, plain = make_decoder(4, Again()), GptDecoder(toy_gpt())
    rows = [(start(ours, index)[0], start(plain, index)[0]) for index in range(3)]
    for step, chosen in enumerate([(0, 1, 2), (2,), (1, 0), (2, 0), (0,), (2, 1, 0)]):
        tokens = [7 * step + index for index in chosen]
        given = ours.step([rows[index][0] for index in chosen], tokens)
        expected = plain.step([rows[index][1] for index in chosen], tokens)
        assert distance(given, expected) < 1e-4


def test_guided_rows_are_the_plain_decoders() -> None:
    """Their prefills with a text and without are replays of one recording."""
    recorder = Again()
    ours, plain = GuidedDecoder(make_decoder(6, recorder)), GuidedDecoder(GptDecoder(toy_gpt()))
    rows = []
    for index in range(3):
        voice, ids = toy.voice(index).gpt_latents, (5, 6 + index)
        (row, given), (other, expected) = (d.prefill(ids, voice, 1.5) for d in (ours, plain))
        assert distance(given, expected) < 1e-4
        rows.append((row, other))
    assert (recorder.num_recorded, recorder.num_replayed) == (4, 6), "the room grew three times"
    for step in range(4):
        tokens = [step, step + 1, step + 2]
        given = ours.step([row for row, _ in rows], tokens)
        assert distance(given, plain.step([row for _, row in rows], tokens)) < 1e-4


def test_jobs_are_spoken_as_over_the_plain_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn by chance, one of them guided; the decoder is put where the plain one is on a CPU."""

    def speak() -> dict[str, tuple[int, ...]]:
        batch = scheduler.Scheduler(toy.toy_model(), max_rows=4)
        for index, scale in enumerate((1.0, 1.5, 1.0, 1.0, 1.0)):
            options = DecodeOptions(seed=index, guidance_scale=scale, max_tokens=30)
            batch.submit(SegmentJob(str(index), (18, 19, 20), toy.voice(index), options))
        tokens = {}
        while not batch.is_idle:
            ends = [event for event in batch.step() if isinstance(event, SegmentDone)]
            tokens.update({end.job_id: end.tokens for end in ends})
        return tokens

    expected = speak()
    assert len(expected) == 5
    recorder = Again()
    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "GptDecoder", lambda gpt: GraphDecoder(gpt, 4, recorder=recorder))
        assert speak() == expected
    assert recorder.num_replayed > 20


def test_models_on_cuda_devices_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which cannot be made without one, so what would be made is looked at."""
    wanted: list[tuple[GptWeights, int]] = []
    monkeypatch.setattr(scheduler, "GraphDecoder", lambda gpt, rows: wanted.append((gpt, rows)))
    monkeypatch.setattr(GptWeights, "device", torch.device("cuda", 0))
    scheduler.Scheduler(toy.toy_model(), max_rows=5)
    ((gpt, rows),) = wanted
    assert (gpt is toy_gpt(), rows) == (True, 5)
    scheduler.Scheduler(toy.toy_model(), max_rows=5, fast=False)
    monkeypatch.setattr(GptWeights, "device", torch.device("mps"))
    scheduler.Scheduler(toy.toy_model(), max_rows=5)
    assert len(wanted) == 1


def test_a_broken_row_harms_neither_its_neighbour_nor_who_comes_into_its_place() -> None:
    decoder, plain = make_decoder(2, Again()), GptDecoder(toy_gpt())
    voice = toy.voice(0).gpt_latents
    whole, other = start(decoder, 1)[0], start(plain, 1)[0]
    broken, output = decoder.prefill(tuple(range(10, 40)), torch.full_like(voice, torch.nan))
    assert output.logits.isnan().all()
    given = decoder.step([broken, whole], [3, 4])
    assert given.logits[0].isnan().all()
    given = StepOutput(given.logits[1:], given.latents[1:])
    assert distance(given, plain.step([other], [4])) < 1e-4
    assert RunGraphs.distrusted == {}
    del broken
    new, newer = start(decoder, 0)[0], start(plain, 0)[0]
    assert new.place == 1, "where the broken one was longer"
    given = decoder.step([new, whole], [5, 6])
    assert distance(given, plain.step([newer, other], [5, 6])) < 1e-4


def test_what_was_handed_out_stays() -> None:
    decoder = make_decoder(1, Again())
    row, _ = start(decoder, 0)
    outputs = [decoder.step([row], [step]) for step in range(3)]
    copies = [StepOutput(*(part.clone() for part in output)) for output in outputs]
    decoder.step([row], [9])
    assert all(torch.equal(a.logits, b.logits) for a, b in zip(outputs, copies, strict=True))
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(outputs, copies, strict=True))


def test_room_grows_with_the_rows_and_goes_with_the_decoder() -> None:
    decoder = make_decoder(8)
    sizes = toy_gpt().sizes
    assert decoder.cache_bytes == 0
    rows = [start(decoder, 0)[0]]
    assert decoder.cache_bytes == sizes.cache_bytes(64, torch.float32)
    rows += [start(decoder, 0)[0] for _ in range(4)]
    assert decoder.cache_bytes == sizes.cache_bytes(8 * 64, torch.float32)
    rows[1:] = []
    rows += [start(decoder, 6)[0] for _ in range(2)]
    assert decoder.cache_bytes == sizes.cache_bytes(8 * 64, torch.float32)
    assert sorted(row.place for row in rows) == [0, 1, 2]
    kept = weakref.ref(decoder._cache.layers[0])
    del decoder
    assert kept() is None, "without waiting for the collector"


def test_what_was_recorded_before_the_room_grew_is_recorded_anew() -> None:
    """A recording on a card holds the addresses of keys and values."""
    recorder = Again()
    decoder = make_decoder(4, recorder)
    rows = [start(decoder, 0)[0]]
    for step in range(3):
        decoder.step(rows, [step])
    assert (recorder.num_recorded, recorder.num_forgotten) == (2, 1), "a prefill and a step"
    rows.append(start(decoder, 0)[0])
    for step in range(3):
        decoder.step(rows, [step, step])
    assert (recorder.num_recorded, recorder.num_forgotten) == (4, 2)
    del rows[1]
    rows.append(start(decoder, 0)[0])
    decoder.step(rows, [3, 3])
    assert recorder.num_recorded == 4, "there was room"


def test_the_rows_at_their_longest_are_what_is_counted() -> None:
    """`footprint` counts whole blocks of 128 positions; for XTTS-v2's sizes, and the toy's."""
    for args in ({"gpt_layers": 30, "gpt_n_model_channels": 1024}, toy.MODEL_ARGS):
        sizes = replace(
            toy_gpt().sizes,
            max_text_tokens=int(args.get("gpt_max_text_tokens", 402)) - 1,
            max_audio_tokens=int(args.get("gpt_max_audio_tokens", 605)) - 3,
        )
        longest = GraphDecoder(replace(toy_gpt(), sizes=sizes), 3)._cache._spans[-1]
        text = int(args.get("gpt_max_text_tokens", 402)) + 2
        audio = int(args.get("gpt_max_audio_tokens", 605)) + 2
        counted = -(-(footprint._VOICE_POSITIONS + text + audio) // 128) * 128
        assert 32 + sizes.max_text_tokens + 3 + sizes.max_audio_tokens < longest <= counted


def fill(cache: GrowingCache, num_rows: int) -> list[PooledRow]:
    rows = [cache.open_row(5) for _ in range(num_rows)]
    for row in rows:
        cache.layers[1][:, row.place] = row.place
    return rows


def test_rows_that_move_keep_what_they_hold() -> None:
    cache = GrowingCache(toy_gpt().sizes, 4, (8, 16), torch.float32, CPU)
    rows = fill(cache, 3)
    before = cache.generation
    del rows[0]
    assert cache.begin_step() == ([5, 5], 8)
    assert [row.place for row in rows] == [1, 0], "two places are enough for a step"
    assert [cache.layers[1][1, row.place, 0, 0, 0] for row in rows] == [1, 2]
    assert cache.generation == before
    rows.append(cache.open_row(11))
    assert cache.generation == before + 1
    assert [cache.layers[1][1, row.place, 3, 4, 5] for row in rows[:2]] == [1, 2]


def test_rows_stay_where_a_step_would_not_get_smaller() -> None:
    cache = GrowingCache(toy_gpt().sizes, 8, (8, 16), torch.float32, CPU)
    rows = fill(cache, 7)
    del rows[4], rows[2]
    assert cache.begin_step() == ([5, 5, 0, 5, 0, 5, 5, 0], 8)
    assert [row.place for row in rows] == [0, 1, 3, 5, 6]
    rows.append(cache.open_row(6))
    assert rows[-1].place == 2, "where one fell free"
    del rows[:3]
    assert sorted(cache.begin_step()[0]) == [0, 5, 5, 6], "fewer places: now they move"
    assert sorted(row.place for row in rows) == [0, 1, 2]
    assert [cache.layers[1][0, row.place, 0, 0, 0] for row in rows[:2]] == [5, 6]


def test_half_precision_stays_near_the_plain_decoder() -> None:
    """The measure that is taken of a real card, at the toy's sizes."""
    compared = compare(toy_gpt().sizes, torch.bfloat16, "cpu", 3, 8)
    prefilled = compare_prefills(toy_gpt().sizes, torch.bfloat16, "cpu", 40, 4)
    for found in (compared, prefilled):
        assert found.plain_apart < 5e-2
        assert found.replayed_apart == 0, "the same operations"
