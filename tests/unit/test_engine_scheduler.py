"""Jobs together and alone: the same to the bit; in order, cancelled at once, nothing kept."""

from __future__ import annotations

import functools
import gc
import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import toy

from app.engine.scheduler import Scheduler
from app.engine.types import (
    AudioChunk,
    Conditioning,
    DecodeOptions,
    Event,
    SegmentDone,
    SegmentFailed,
    SegmentJob,
    SpeechModel,
)
from app.errors import ConflictError, InputError

STOP = 1025


@dataclass
class Heard:
    """What one job gave."""

    chunks: list[np.ndarray] = field(default_factory=list)
    end: SegmentDone | SegmentFailed | None = None

    @property
    def done(self) -> SegmentDone:
        assert isinstance(self.end, SegmentDone)
        return self.end

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.float32), *self.chunks])


def make_job(name: str, *, priority: int = 0, num_text: int = 10, **options: object) -> SegmentJob:
    fields = {"greedy": True, "repetition_penalty": 2.0, **options}
    return SegmentJob(
        id=name,
        token_ids=tuple(range(18, 18 + num_text)),
        conditioning=toy.voice(0),
        options=DecodeOptions(**fields),  # type: ignore[arg-type]
        priority=priority,
    )


@functools.cache
def make_endless_model() -> SpeechModel:
    """Returns the toy with a head that never stops."""
    return toy.load_toy(toy.toy_folder(), {"gpt.mel_head.bias": {STOP: -100.0}})


def make_mixed_jobs(num: int) -> list[SegmentJob]:
    """Returns jobs that differ in everything: text, voice, options, seed, length, speed."""
    kinds = (
        {"temperature": 0.7, "top_k": 50, "top_p": 0.85, "repetition_penalty": 10.0},
        {"temperature": 1.3, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0},
        {"greedy": True, "repetition_penalty": 5.0},
        {"temperature": 1.0, "top_k": 5, "top_p": 0.5, "repetition_penalty": 2.0},
    )
    return [
        SegmentJob(
            id=f"job {index}",
            token_ids=tuple((index * 7 + step * step) % 45 + 2 for step in range(5 + 4 * index)),
            conditioning=toy.voice(index % 5),
            options=DecodeOptions(
                seed=index, max_tokens=(None, 20, 7)[index % 3], **kinds[index % 4]
            ),
            speed=(1.0, 1.37)[index % 2],
            priority=index % 3,
        )
        for index in range(num)
    ]


def note(events: Sequence[Event], heard: dict[str, Heard]) -> None:
    for event in events:
        entry = heard.setdefault(event.job_id, Heard())
        assert entry.end is None, "nothing follows a job's end"
        if isinstance(event, AudioChunk):
            entry.chunks.append(event.samples)
        else:
            entry.end = event


def run_out(scheduler: Scheduler) -> dict[str, Heard]:
    heard: dict[str, Heard] = {}
    while not scheduler.is_idle:
        note(scheduler.step(), heard)
    return heard


def run_alone(job: SegmentJob) -> Heard:
    scheduler = Scheduler(toy.toy_model())
    scheduler.submit(job)
    return run_out(scheduler)[job.id]


def assert_same(together: Heard, alone: Heard) -> None:
    assert together.done.tokens == alone.done.tokens
    assert together.done.stopped == alone.done.stopped
    assert together.samples.tobytes() == alone.samples.tobytes()


def test_sixteen_together_give_to_the_bit_what_each_gives_alone() -> None:
    jobs = make_mixed_jobs(16)
    scheduler = Scheduler(toy.toy_model(), max_rows=16)
    for job in jobs:
        scheduler.submit(job)
    together = run_out(scheduler)
    lengths = {len(together[job.id].done.tokens) for job in jobs}
    assert len(lengths) > 4, "rows must leave at different steps"
    for job in jobs:
        assert_same(together[job.id], run_alone(job))


def test_rows_that_enter_late_into_few_places_give_the_same() -> None:
    jobs = make_mixed_jobs(9)
    scheduler = Scheduler(toy.toy_model(), max_rows=3)
    together: dict[str, Heard] = {}
    for job in jobs:
        scheduler.submit(job)
        for _ in range(5):
            note(scheduler.step(), together)
            assert scheduler.num_rows <= 3
    while not scheduler.is_idle:
        note(scheduler.step(), together)
    for job in jobs:
        assert_same(together[job.id], run_alone(job))


def test_a_cancelled_neighbour_changes_nothing() -> None:
    job, neighbour = make_mixed_jobs(2)
    scheduler = Scheduler(toy.toy_model())
    scheduler.submit(neighbour)
    scheduler.submit(job)
    heard: dict[str, Heard] = {}
    for _ in range(4):
        note(scheduler.step(), heard)
    scheduler.cancel(neighbour.id)
    note([e for e in scheduler.step() if e.job_id == job.id], heard)
    heard.update({job.id: heard.get(job.id, Heard())})
    while not scheduler.is_idle:
        note(scheduler.step(), heard)
    assert_same(heard[job.id], run_alone(job))


def test_seeds_give_different_speech_and_the_same_seed_the_same() -> None:
    jobs = [replace(make_mixed_jobs(1)[0], options=DecodeOptions(seed=seed)) for seed in (1, 2, 1)]
    first, other, again = [run_alone(job) for job in jobs]
    assert first.done.tokens == again.done.tokens
    assert first.done.tokens != other.done.tokens


def test_cancel_stops_within_one_step_and_frees_the_row() -> None:
    scheduler = Scheduler(make_endless_model(), max_rows=1)
    scheduler.submit(make_job("first"))
    scheduler.submit(make_job("second"))
    for _ in range(3):
        scheduler.step()
    state = weakref.ref(scheduler._rows[0])
    assert (scheduler.num_rows, scheduler.num_waiting) == (1, 1)

    assert scheduler.cancel("first")
    gc.collect()
    assert state() is None, "its cache and its vocoder are gone with it"
    events = scheduler.step()
    assert [row.job.id for row in scheduler._rows] == ["second"]
    assert all(event.job_id == "second" for event in events)


def test_cancel_of_a_waiting_job_and_of_none() -> None:
    scheduler = Scheduler(toy.toy_model(), max_rows=1)
    for name in ("first", "second", "third"):
        scheduler.submit(make_job(name, max_tokens=3))
    assert scheduler.cancel("second")
    assert not scheduler.cancel("second")
    assert not scheduler.cancel("nobody")
    assert set(run_out(scheduler)) == {"first", "third"}
    assert not scheduler.cancel("first")


def test_first_segments_go_first_then_first_come_first_served() -> None:
    scheduler = Scheduler(toy.toy_model(), max_rows=1)
    order = [("a2", 2), ("a1", 1), ("b0", 0), ("c0", 0), ("b1", 1)]
    for name, priority in order:
        scheduler.submit(make_job(name, priority=priority, max_tokens=2))
    assert list(run_out(scheduler)) == ["b0", "c0", "a2", "a1", "b1"]


def test_a_new_request_need_not_wait_for_the_end_of_a_long_text() -> None:
    scheduler = Scheduler(make_endless_model(), max_rows=4)
    for index in range(8):
        scheduler.submit(replace(make_job(f"long{index}", priority=index), group="long"))
    for _ in range(12):
        scheduler.step()
    assert scheduler.num_rows == 4, "its first segment took a kept row, for nobody else wanted it"
    busy = Scheduler(make_endless_model(), max_rows=4)
    for index in range(1, 9):
        busy.submit(replace(make_job(f"long{index}", priority=index), group="long"))
    for _ in range(12):
        busy.step()
    assert (busy.num_rows, busy.num_waiting) == (3, 5), "one row is kept for first segments"
    busy.submit(replace(make_job("new"), group="new"))
    busy.step()
    assert [row.job.id for row in busy._rows][-1] == "new"


def test_requests_take_turns_with_their_later_segments() -> None:
    scheduler = Scheduler(make_endless_model(), max_rows=6)
    for group in ("a", "b"):
        for index in range(1, 6):
            scheduler.submit(replace(make_job(f"{group}{index}", priority=index), group=group))
    for _ in range(8):
        scheduler.step()
    assert [row.job.id for row in scheduler._rows] == ["a1", "b1", "a2", "b2", "a3"]


def test_caches_stay_within_their_budget_but_one_row_always_goes() -> None:
    model = make_endless_model()
    most = 32 + 10 + 3 + model.max_audio_tokens
    room = model.gpt.sizes.cache_bytes(2 * most, torch.float32)
    for budget, expected in ((room, 2), (room - 1, 1), (1, 1)):
        scheduler = Scheduler(model, cache_bytes=budget)
        for name in ("a", "b", "c"):
            scheduler.submit(make_job(name))
        for _ in range(6):
            scheduler.step()
        assert scheduler.num_rows == expected
    short = Scheduler(model, cache_bytes=room)
    for index in range(6):
        short.submit(make_job(str(index), max_tokens=20))
    for _ in range(8):
        short.step()
    assert short.num_rows > 2, "rows that end early need less room"


def test_chunks_start_small_and_grow() -> None:
    scheduler = Scheduler(make_endless_model(), first_chunk_tokens=6, chunk_tokens=16)
    scheduler.submit(make_job("a"))
    tokens_at_chunk, num_steps = [], 0
    samples = 0
    while not scheduler.is_idle:
        events = scheduler.step()
        num_steps += 1
        if any(isinstance(event, AudioChunk) for event in events):
            tokens_at_chunk.append(num_steps)
        samples += sum(len(e.samples) for e in events if isinstance(e, AudioChunk))
    limit = toy.toy_model().max_audio_tokens
    assert tokens_at_chunk == [6, 18, 34, 50, 66, limit]
    assert samples == 256 * int(4 * limit * (24000 / 22050))


def test_a_first_chunk_too_small_to_be_heard_waits_for_more() -> None:
    """What the vocoder holds back would be all of it; what follows is no larger for that."""
    scheduler = Scheduler(make_endless_model(), first_chunk_tokens=2, chunk_tokens=16)
    scheduler.submit(make_job("a"))
    chunks = []
    while len(chunks) < 3:
        chunks += [len(each.samples) for each in scheduler.step() if isinstance(each, AudioChunk)]
    tokens = [round(samples / 256 / 4.354) for samples in chunks]
    assert chunks[0] >= 2400
    assert tokens[1:] == [4, 8]


def test_the_end_says_whether_the_model_stopped() -> None:
    heard = {job.id: run_alone(job) for job in make_mixed_jobs(12)}
    assert {entry.done.stopped for entry in heard.values()} == {True, False}
    for entry in heard.values():
        assert (entry.done.tokens[-1] == STOP) == entry.done.stopped
        assert STOP not in entry.done.tokens[:-1]


def test_max_tokens_ends_a_job_and_never_exceeds_the_models_limit() -> None:
    limit = toy.toy_model().max_audio_tokens
    for wanted, expected in ((1, 1), (5, 5), (10_000, limit), (None, limit)):
        scheduler = Scheduler(make_endless_model())
        scheduler.submit(make_job("a", max_tokens=wanted))
        done = run_out(scheduler)["a"].done
        assert (len(done.tokens), done.stopped) == (expected, False)


def test_a_row_whose_numbers_break_fails_alone() -> None:
    voice = toy.voice(0)
    broken = Conditioning(voice.gpt_latents * math.nan, voice.speaker_embedding)
    scheduler = Scheduler(toy.toy_model())
    scheduler.submit(make_job("good", max_tokens=5))
    scheduler.submit(replace(make_job("bad"), conditioning=broken))
    heard = run_out(scheduler)
    assert isinstance(heard["bad"].end, SegmentFailed)
    assert heard["bad"].chunks == []
    assert len(heard["good"].done.tokens) == 5


def test_idle_scheduler_does_nothing() -> None:
    scheduler = Scheduler(toy.toy_model())
    assert scheduler.is_idle
    assert scheduler.step() == []


@pytest.mark.parametrize(
    ("param", "change"),
    [
        ("input", {"token_ids": ()}),
        ("input", {"token_ids": (5,) * 100}),
        ("input", {"token_ids": (5, 10_000)}),
        ("input", {"token_ids": (-1,)}),
        ("speed", {"speed": 0.0}),
        ("speed", {"speed": math.nan}),
        ("voice", {"conditioning": toy.voice(0, dim=32)}),
        ("voice", {"conditioning": Conditioning(torch.zeros(1, 32, 64), torch.zeros(1, 256, 1))}),
    ],
)
def test_a_job_that_can_not_run_is_refused(param: str, change: dict[str, object]) -> None:
    scheduler = Scheduler(toy.toy_model())
    with pytest.raises(InputError) as caught:
        scheduler.submit(replace(make_job("a"), **change))  # type: ignore[arg-type]
    assert caught.value.param == param
    assert scheduler.is_idle


def test_the_longest_text_and_speech_fit_the_tables() -> None:
    model = make_endless_model()
    scheduler = Scheduler(model)
    job = replace(make_job("a"), token_ids=(5,) * toy.toy_model().max_text_tokens)
    scheduler.submit(job)
    assert len(run_out(scheduler)["a"].done.tokens) == toy.toy_model().max_audio_tokens


def test_an_id_runs_once_at_a_time() -> None:
    scheduler = Scheduler(toy.toy_model())
    scheduler.submit(make_job("a", max_tokens=2))
    with pytest.raises(ConflictError):
        scheduler.submit(make_job("a"))
    run_out(scheduler)
    scheduler.submit(make_job("a", max_tokens=2))
    assert len(run_out(scheduler)["a"].done.tokens) == 2


def test_later_segments_do_not_come_between_a_request_and_its_first_audio() -> None:
    scheduler = Scheduler(make_endless_model(), first_chunk_tokens=7)
    for index in range(4):
        scheduler.submit(replace(make_job(f"long{index}", priority=index), group="long"))
    scheduler.submit(replace(make_job("other", priority=2), group="other"))
    rows, sounded = [], []
    for _ in range(11):
        events = scheduler.step()
        sounded.append(any(isinstance(event, AudioChunk) for event in events))
        rows.append([row.job.id for row in scheduler._rows])
    assert rows[1] == rows[6] == ["long0", "other"], "another request's segment need not wait"
    assert sounded.index(True) == 6
    assert rows[7] == ["long0", "other", "long1"]
    assert len(rows[10]) == 5
