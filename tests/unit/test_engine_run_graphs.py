"""Recordings nobody has to trust: wrong or idle, those that cannot be made, and too many of them.

Held to on the CPU, where a recording is the run itself, called again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import pytest
import torch
from graph_card import distance
from graph_recorders import Again, Broken, Frozen, Idle
from graph_rows import draw_greedily, make_decoder, start, toy_gpt

from app.engine.decoder import GptDecoder, StepOutput
from app.engine.run_graphs import Recording, RunGraphs, StaticRun

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunGraphs, "distrusted", {})


def add_one(output: StepOutput) -> None:
    output.logits.add_(1)


def lose_logits(output: StepOutput) -> None:
    output.logits[:, 3] = torch.nan


def lose_latents(output: StepOutput) -> None:
    output.latents[:, 3] = torch.nan


@pytest.mark.parametrize("fault", [add_one, lose_logits, lose_latents])
def test_a_replay_that_is_wrong_is_found_out_and_nobody_hears_it(
    fault: Callable[[StepOutput], None], caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Again(fault)
    with caplog.at_level(logging.WARNING):
        drawn = draw_greedily(make_decoder(4, recorder), 4, 10)
    assert drawn == draw_greedily(GptDecoder(toy_gpt()), 4, 10)
    assert recorder.num_recorded == recorder.num_replayed == 2, "a prefill and a step"
    assert "no longer replayed" in caplog.text
    assert set(RunGraphs.distrusted) == {"prefill", "step"}
    assert all("a replayed one was off by" in reason for reason in RunGraphs.distrusted.values())
    other = Again()
    draw_greedily(make_decoder(4, other), 4, 10)
    assert other.num_recorded == 0, "nobody in this process records any more"


def forget_keys(kept: list[torch.Tensor]) -> None:
    kept[1][0, 0] = torch.nan  # what a place is filled with before the first replay


def spoil_a_value(kept: list[torch.Tensor]) -> None:
    kept[-1][1, 0, 3, 20, 5] += 10


def leave_the_last_row_behind(kept: list[torch.Tensor]) -> None:
    kept[0][1, 0, 2, -1] = 0.5


@pytest.mark.parametrize("fault", [forget_keys, spoil_a_value, leave_the_last_row_behind])
def test_a_replayed_prefill_is_held_to_what_it_leaves_in_its_place(
    fault: Callable[[list[torch.Tensor]], None],
) -> None:
    """Its output tells nothing of that; and steps, which are right, go on being replayed."""

    def spoil(_: StepOutput) -> None:
        if recorder.num_replayed == 1:
            fault(decoder._cache.layers)

    recorder = Again(spoil)
    decoder = make_decoder(4, recorder)
    assert draw_greedily(decoder, 4, 10) == draw_greedily(GptDecoder(toy_gpt()), 4, 10)
    assert set(RunGraphs.distrusted) == {"prefill"}
    assert decoder.num_graphs > 0
    assert recorder.num_replayed > 5


@pytest.mark.parametrize("kind", [Frozen, Idle])
def test_a_replay_that_does_not_do_the_work_is_found_out(kind: type[Again]) -> None:
    drawn = draw_greedily(make_decoder(2, kind()), 2, 10)
    assert drawn == draw_greedily(GptDecoder(toy_gpt()), 2, 10)
    assert set(RunGraphs.distrusted) == {"prefill", "step"}


@pytest.mark.parametrize("kind", [Frozen, Idle])
def test_so_is_one_that_was_recorded_with_the_right_inputs(kind: type[Again]) -> None:
    """No text and a silent voice are what stands in for others while a prefill is recorded."""
    decoder, plain = make_decoder(1, kind()), GptDecoder(toy_gpt())
    voice = torch.zeros(1, 32, toy_gpt().sizes.model_dim)
    output = decoder.prefill((), voice)[1]
    assert distance(output, plain.prefill((), voice)[1]) < 1e-4
    assert set(RunGraphs.distrusted) == {"prefill"}


def test_what_cannot_be_recorded_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Broken(RuntimeError("operation not permitted when stream is capturing"))
    with caplog.at_level(logging.WARNING):
        drawn = draw_greedily(make_decoder(2, recorder), 2, 10)
    assert drawn == draw_greedily(GptDecoder(toy_gpt()), 2, 10)
    assert recorder.num_recorded == 2, "a prefill and a step"
    assert "not permitted when stream is capturing" in caplog.text


def test_a_recording_keeps_no_row() -> None:
    """Or its place would never be free again."""
    decoder = make_decoder(1, Again())
    for index in range(3):
        row, _ = start(decoder, index)
        decoder.step([row], [index])
        assert row.place == 0
        del row


def test_without_memory_to_record_only_this_decoder_stops() -> None:
    recorder, other = Broken(torch.OutOfMemoryError("CUDA out of memory")), Again()
    expected = draw_greedily(GptDecoder(toy_gpt()), 2, 10)
    assert draw_greedily(make_decoder(2, recorder), 2, 10) == expected
    assert recorder.num_recorded == 1
    assert draw_greedily(make_decoder(2, other), 2, 10) == expected
    assert other.num_recorded > 1


def scale(inputs: torch.Tensor, by: int) -> StepOutput:
    rows = inputs.sum(0).float()[:, None] * by
    return StepOutput(rows, rows + 1)


def make_run(kind: str, num_rows: int, by: int) -> StaticRun:
    inputs = torch.ones(3, num_rows, dtype=torch.int64)
    return StaticRun(
        kind,
        (num_rows, by),
        partial(scale, by=by),
        (inputs,),
        decoys=lambda: (torch.zeros_like(inputs),),
        places=range(num_rows),
    )


class Partial(Again):
    """Its replays do all but one part; of that stays what was there before."""

    def __init__(self, part: torch.Tensor) -> None:
        super().__init__()
        self._part = part

    def record(self, run: Callable[[], StepOutput]) -> Recording:
        recording = super().record(run)

        def replay() -> None:
            before = self._part.clone()
            recording.replay()
            self._part.copy_(before)

        return Recording(recording.output, replay)


@pytest.mark.parametrize("left_out", [0, 1])
def test_a_part_that_a_replay_leaves_out_is_found_out_though_it_was_right_before(
    left_out: int,
) -> None:
    written, zeroed = torch.full((2, 3), 7.0), torch.zeros(2, 3)

    def work(inputs: torch.Tensor) -> StepOutput:
        written.fill_(7)
        zeroed.zero_()
        return scale(inputs, 2)

    inputs = torch.ones(3, 1, dtype=torch.int64)
    run = StaticRun(
        "prefill",
        (1,),
        work,
        (inputs,),
        decoys=lambda: (torch.zeros_like(inputs),),
        places=[0],
        written=lambda: [written],
        zeroed=lambda: [zeroed],
    )
    graphs = RunGraphs(Partial((written, zeroed)[left_out]), CPU)
    assert torch.equal(graphs.do(run).logits, scale(inputs, 2).logits)
    assert set(RunGraphs.distrusted) == {"prefill"}
    assert (written.unique(), zeroed.unique()) == (7, 0)


def test_an_output_that_is_right_from_before_is_found_out() -> None:
    """Where a replay does nothing, and it was recorded with what comes first."""
    run = make_run("step", 2, 3)
    run = run._replace(decoys=lambda: run.inputs)
    RunGraphs(Idle(), CPU).do(run)
    assert set(RunGraphs.distrusted) == {"step"}


def test_recordings_of_another_kind_stay() -> None:
    def add_one_to_a_prefill(output: StepOutput) -> None:
        output.logits.add_(len(output.logits) == 2)

    recorder = Again(add_one_to_a_prefill)
    graphs = RunGraphs(recorder, CPU)
    graphs.do(make_run("step", 1, 8))
    graphs.do(make_run("prefill", 1, 8))
    assert len(graphs) == 2
    graphs.do(make_run("prefill", 2, 8))
    assert len(graphs) == 1
    graphs.do(make_run("step", 1, 8))
    assert (recorder.num_recorded, recorder.num_replayed) == (3, 4)


def test_the_longest_unused_recording_goes_beyond_the_bound() -> None:
    """Whatever its kind: there is one bound for all."""
    recorder = Again()
    graphs = RunGraphs(recorder, CPU, most=2)
    for kind, num_rows, by, expected in [
        ("step", 1, 8, 1),
        ("prefill", 2, 8, 2),
        ("step", 1, 8, 2),
        ("step", 1, 16, 3),  # the longest unused, the prefill, goes
        ("step", 1, 8, 3),
        ("prefill", 2, 8, 4),
        ("prefill", 1, 8, 5),  # of the shape of a step
    ]:
        run = make_run(kind, num_rows, by)
        assert torch.equal(graphs.do(run).logits, scale(*run.inputs, by).logits)
        assert recorder.num_recorded == expected
        assert len(graphs) <= 2
    assert recorder.num_forgotten == 1
    graphs.clear()
    graphs.do(make_run("step", 1, 8))
    assert recorder.num_forgotten == 2, "no graph holds the pool any more"
