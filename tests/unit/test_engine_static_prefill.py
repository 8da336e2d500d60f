"""The prefill of fixed shapes: the plain decoder's numbers at every length, and clean places."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import toy
from graph_card import distance, random_weights
from graph_recorders import Again
from graph_rows import TEXTS, make_decoder, toy_gpt

from app.engine.cache_pool import PooledRow
from app.engine.decoder import DecodeRow, GptDecoder, StepOutput
from app.engine.graph_decoder import GraphDecoder
from app.engine.reference import ReferenceDecoder
from app.engine.run_graphs import RunGraphs

LONGEST = 99


@pytest.fixture(autouse=True)
def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunGraphs, "distrusted", {})


def voice(index: int) -> torch.Tensor:
    return toy.voice(index).gpt_latents


def text(num_tokens: int) -> tuple[int, ...]:
    return tuple(5 + (3 * num_tokens + place) % 40 for place in range(num_tokens))


def assert_kept(decoder: GraphDecoder, row: PooledRow, plain: DecodeRow) -> None:
    """The plain row's keys and values in front, zeros behind."""
    for kept, whole in zip(decoder._cache.layers, plain.cache._layers, strict=True):
        ours, true = kept[:, row.place], whole[:, :, : row.length]
        assert (ours[:, :, : row.length] - true).abs().max() < 1e-4 * true.abs().max()
        assert not ours[:, :, row.length :].any()


@pytest.mark.parametrize("is_recorded", [False, True])
def test_prefixes_of_every_length_are_the_plain_decoders(is_recorded: bool) -> None:
    """Whatever was in the place before, from an empty text to the longest there can be."""
    recorder = Again() if is_recorded else None
    decoder, plain = make_decoder(1, recorder), GptDecoder(toy_gpt())
    # at its largest from the start, so that nothing is recorded twice
    decoder.prefill(text(LONGEST), voice(0))
    for num_tokens in range(LONGEST + 1):
        ids = text(num_tokens)
        (row, given), (other, expected) = (d.prefill(ids, voice(1)) for d in (decoder, plain))
        assert distance(given, expected) < 1e-4
        assert row.length == 32 + num_tokens + 3
        assert_kept(decoder, row, other)
        assert distance(decoder.step([row], [9]), plain.step([other], [9])) < 1e-4
        del row
    assert RunGraphs.distrusted == {}
    if recorder:
        num_spans = 3  # of the steps: up to 64, 96, 128 and all 256 positions
        assert recorder.num_recorded == len(TEXTS) + 1 + num_spans + 1
        assert recorder.num_replayed == 2 * (LONGEST + 1) + 1


@pytest.mark.parametrize("num_padded", [*TEXTS, LONGEST + 3])
def test_at_each_boundary_it_is_the_slow_path(num_padded: int) -> None:
    decoder, slow = make_decoder(1, Again()), ReferenceDecoder(toy_gpt())
    for num_tokens in (num_padded - 4, num_padded - 3, min(num_padded - 2, LONGEST)):
        (row, given), (other, expected) = (
            d.prefill(text(num_tokens), voice(2)) for d in (decoder, slow)
        )
        assert distance(given, expected) < 1e-4
        assert distance(decoder.step([row], [3]), slow.step([other], [3])) < 1e-4
        del row


def test_voices_of_another_length_have_recordings_of_their_own() -> None:
    recorder = Again()
    decoder, plain = make_decoder(1, recorder), GptDecoder(toy_gpt())
    decoder.prefill(text(LONGEST), voice(0))
    for num_voice in (32, 7, 1, 7, 1, 32):
        part = voice(1)[:, :num_voice]
        (row, given), (other, expected) = (d.prefill(text(20), part) for d in (decoder, plain))
        assert distance(given, expected) < 1e-4
        assert_kept(decoder, row, other)
        del row
    assert recorder.num_recorded == 4


def test_padding_that_is_no_number_harms_nobody() -> None:
    """In half precision a position that nobody trained may be beyond its numbers."""
    weights = toy_gpt()
    positions = weights.text_positions.clone()
    positions[20:24], positions[24:] = torch.nan, torch.inf
    broken = replace(weights, text_positions=positions)
    decoder, plain = GraphDecoder(broken, 2, texts=TEXTS), GptDecoder(weights)
    (row, given), (other, expected) = (d.prefill(text(17), voice(1)) for d in (decoder, plain))
    assert distance(given, expected) < 1e-4
    assert_kept(decoder, row, other)
    for step in range(3):
        assert distance(decoder.step([row], [step]), plain.step([other], [step])) < 1e-4


def test_a_broken_voice_leaves_the_place_clean_behind_it() -> None:
    recorder = Again()
    decoder, plain = make_decoder(2, recorder), GptDecoder(toy_gpt())
    whole, other = (d.prefill(text(9), voice(0))[0] for d in (decoder, plain))
    nan = torch.full_like(voice(0), torch.nan)
    broken, output = decoder.prefill(text(20), nan)
    assert output.logits.isnan().all()
    assert not decoder._cache.layers[1][:, broken.place, :, broken.length :].any()
    num_recorded = recorder.num_recorded
    del broken
    row, given = decoder.prefill(text(21), voice(2))
    assert row.place == 1
    assert recorder.num_recorded == num_recorded + 1, "there were no numbers to trust one for"
    next_to, expected = plain.prefill(text(21), voice(2))
    assert distance(given, expected) < 1e-4
    given = decoder.step([whole, row], [1, 2])
    assert distance(given, plain.step([other, next_to], [1, 2])) < 1e-4
    assert RunGraphs.distrusted == {}


def test_prefills_between_steps_change_nobody_elses_row() -> None:
    decoder, plain = make_decoder(4, Again()), GptDecoder(toy_gpt())
    rows: list[tuple[PooledRow, DecodeRow]] = []
    for index in range(4):
        (row, given), (other, expected) = (
            d.prefill(text(30 - 9 * index), voice(index)) for d in (decoder, plain)
        )
        assert distance(given, expected) < 1e-4
        rows.append((row, other))
        for step in range(2):
            tokens = [step + place for place in range(len(rows))]
            given = decoder.step([row for row, _ in rows], tokens)
            assert distance(given, plain.step([row for _, row in rows], tokens)) < 1e-4


def test_what_a_prefill_handed_out_stays() -> None:
    decoder = make_decoder(4, Again())
    began = [decoder.prefill(text(10 + index), voice(index)) for index in range(3)]
    outputs = [output for _, output in began]
    copies = [StepOutput(*(part.clone() for part in output)) for output in outputs]
    began.append(decoder.prefill(text(13), voice(3)))
    decoder.step([row for row, _ in began], [1, 2, 3, 4])
    for output, copy in zip(outputs, copies, strict=True):
        assert all(torch.equal(*pair) for pair in zip(output, copy, strict=True))


def test_bfloat16_is_near_the_plain_decoder_at_each_boundary() -> None:
    weights = random_weights(toy_gpt().sizes, torch.bfloat16, "cpu")
    decoder, plain = GraphDecoder(weights, 1, texts=TEXTS, recorder=Again()), GptDecoder(weights)
    for num_tokens in (0, 5, 6, 13, 14, 29, 30, LONGEST):
        (row, given), (other, expected) = (
            d.prefill(text(num_tokens), voice(1)) for d in (decoder, plain)
        )
        assert distance(given, expected) < 5e-2
        assert distance(decoder.step([row], [3]), plain.step([other], [3])) < 5e-2
        del row
    assert RunGraphs.distrusted == {}
