"""8-bit weights: exact sums, the same tokens alone and in any company, close to float32."""

from __future__ import annotations

import functools
import json
from unittest import mock

import numpy as np
import pytest
import torch
import toy

from app.engine import native_linear
from app.engine.batch_decoder import BatchDecoder
from app.engine.cache_pool import CachePool
from app.engine.decoder import GptDecoder
from app.engine.formats import INT8_PAYS_FROM_BYTES, Formats, choose_cpu_formats
from app.engine.gpt_weights import matrix_bytes, quantise_state
from app.engine.int8_linear import Int8Linear, Int8Weight, has_exact_int8
from app.engine.native_decoder import NativeDecoder
from app.engine.native_library import NativeChoice
from app.engine.native_linear import make_int8_linear
from app.engine.reference import ReferenceDecoder
from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, DecodeOptions, SegmentDone, SegmentJob, SpeechModel

needs_int8 = pytest.mark.skipif(
    not has_exact_int8(), reason="this processor has no exact 8-bit products"
)
Speech = dict[str, tuple[tuple[int, ...], np.ndarray]]


@functools.cache
def make_int8_model(
    cache: torch.dtype = torch.bfloat16, *, is_compiled: bool = False
) -> SpeechModel:
    """Returns the toy in 8 bits, with a bfloat16 vocoder; its layers compiled where they can be."""
    if not is_compiled:
        nothing = NativeChoice(None, "a test")
        with mock.patch.object(native_linear, "load_native", return_value=nothing):
            return make_int8_model.__wrapped__(cache, is_compiled=True)
    folder = toy.toy_folder()
    args = json.loads((folder / "config.json").read_text())["model_args"]
    state = torch.load(folder / "model.pth", weights_only=True)["model"]
    return SpeechModel.from_state_dict(
        {**state, **quantise_state(state)},
        args,
        decoder_sizes=toy.DECODER_SIZES,
        formats=Formats("int8", torch.bfloat16, cache, "a test"),
    )


def make_ids(index: int) -> tuple[int, ...]:
    """Returns text tokens; each index gives others, and another number of them."""
    return tuple((index * 7 + step * step) % 45 + 2 for step in range(5 + 5 * index))


def make_jobs(num: int) -> list[SegmentJob]:
    return [
        SegmentJob(
            id=str(index),
            token_ids=make_ids(index),
            conditioning=toy.voice(index % 5),
            options=DecodeOptions(
                seed=index, max_tokens=(70, 20, 7)[index % 3], greedy=index % 4 == 3, top_p=0.95
            ),
            priority=index % 3,
        )
        for index in range(num)
    ]


def run(scheduler: Scheduler, jobs: list[SegmentJob], every: int = 1) -> Speech:
    """Submits a job every so many steps and returns tokens and samples by id."""
    chunks: dict[str, list[np.ndarray]] = {job.id: [] for job in jobs}
    heard: Speech = {}
    pending = list(jobs)
    step = 0
    while pending or not scheduler.is_idle:
        if pending and step % every == 0:
            scheduler.submit(pending.pop(0))
        step += 1
        for event in scheduler.step():
            if isinstance(event, AudioChunk):
                chunks[event.job_id].append(event.samples)
            elif isinstance(event, SegmentDone):
                heard[event.job_id] = (event.tokens, np.concatenate(chunks[event.job_id]))
    return heard


@needs_int8
@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("num_rows", [1, 3, 16, 70])
@pytest.mark.parametrize("make", [Int8Linear, make_int8_linear])
def test_sums_are_exact_for_any_rows_and_threads(
    make: type[Int8Linear], num_threads: int, num_rows: int
) -> None:
    generator = torch.Generator().manual_seed(num_rows)
    values = torch.randint(-127, 128, (96, 512), dtype=torch.int8, generator=generator)
    linear = make(Int8Weight(values, torch.full((96,), 127.0)), torch.zeros(96))
    rows = torch.randint(-127, 128, (num_rows, 512), generator=generator)
    rows[:, 0] = 127  # so that the largest number of each is 1
    expected = (rows @ values.t().long()).float()
    with toy.num_threads(num_threads):
        assert torch.equal(linear.apply(rows.float() / 127), expected)


@needs_int8
@pytest.mark.parametrize("lowest", [None, -0.1701])
@pytest.mark.parametrize("make", [Int8Linear, make_int8_linear])
def test_rounding_stays_within_a_step(make: type[Int8Linear], lowest: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(304, 64, generator=generator)
    bias = torch.randn(64, generator=generator)
    rows = torch.randn(9, 304, generator=generator)
    if lowest is None:
        rows = rows * torch.logspace(-3, 3, 9)[:, None]
    else:
        rows = torch.nn.functional.gelu(rows, approximate="tanh")
    linear = make(Int8Weight.quantise(weight), bias, lowest)
    expected = rows.double() @ weight.double() + bias.double()
    error = (linear.apply(rows) - expected).norm(dim=1) / (expected - bias).norm(dim=1)
    assert error.max() < 0.02


@needs_int8
@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize(("num_in", "lowest"), [(1024, None), (4096, -0.1701)])
@pytest.mark.parametrize("make", [Int8Linear, make_int8_linear])
def test_a_row_of_xtts_width_is_the_same_to_the_bit_in_any_company(
    make: type[Int8Linear], num_in: int, lowest: float | None, num_threads: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(num_in, 64, generator=generator)
    rows = torch.randn(33, num_in, generator=generator)
    if lowest is not None:
        rows = torch.nn.functional.gelu(rows, approximate="tanh")
    linear = make(Int8Weight.quantise(weight), torch.randn(64, generator=generator), lowest)
    alone = torch.cat([linear.apply(row[None]) for row in rows])
    with toy.num_threads(num_threads):
        for num_rows in (2, 7, 16, 33):
            assert torch.equal(linear.apply(rows[:num_rows]), alone[:num_rows])


@needs_int8
@pytest.mark.parametrize("make", [Int8Linear, make_int8_linear])
def test_odd_rows_are_what_they_are(make: type[Int8Linear]) -> None:
    linear = make(Int8Weight.quantise(torch.randn(16, 32)), torch.arange(32.0))
    rows = torch.zeros(3, 16)
    rows[1, 2], rows[2, 3] = torch.nan, torch.inf
    product = linear.apply(rows)
    assert torch.equal(product[0], torch.arange(32.0)), "a row of zeros gives the bias"
    assert product[1].isnan().all(), "a broken row is not made whole"
    assert not product[2].isfinite().any()
    zero = Int8Weight.quantise(torch.zeros(8, 4))
    assert torch.equal(zero.values, torch.zeros(4, 8, dtype=torch.int8))


@needs_int8
@pytest.mark.parametrize("cache", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("num_threads", "every"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_seeded_speech_is_the_same_alone_and_in_company(
    cache: torch.dtype, num_threads: int, every: int, is_compiled: bool
) -> None:
    model, jobs = make_int8_model(cache, is_compiled=is_compiled), make_jobs(16)
    with toy.num_threads(num_threads):
        together = run(Scheduler(model), jobs, every)
    assert len({len(tokens) for tokens, _ in together.values()}) > 3, "rows must leave one by one"
    for job in jobs:
        (alone,) = run(Scheduler(model), [job]).values()
        assert together[job.id][0] == alone[0]
        assert together[job.id][1].tobytes() == alone[1].tobytes()


@needs_int8
@pytest.mark.parametrize("is_compiled", [False, True])
def test_few_places_and_cancelled_neighbours_change_nothing(is_compiled: bool) -> None:
    model, jobs = make_int8_model(is_compiled=is_compiled), make_jobs(6)
    scheduler = Scheduler(model, max_rows=3)
    for job in jobs:
        scheduler.submit(job)
    tokens: dict[str, tuple[int, ...]] = {}
    steps = 0
    while not scheduler.is_idle:
        steps += 1
        if steps == 6:
            assert scheduler.cancel("0"), "the first place falls free in the midst"
        for event in scheduler.step():
            if isinstance(event, SegmentDone):
                tokens[event.job_id] = event.tokens
    assert set(tokens) == {"1", "2", "3", "4", "5"}
    for job in jobs[1:]:
        (alone,) = run(Scheduler(model), [job]).values()
        assert tokens[job.id] == alone[0]


@needs_int8
@pytest.mark.parametrize("is_compiled", [False, True])
def test_the_slow_path_speaks_the_same(is_compiled: bool) -> None:
    """Over the same 8-bit weights; caches in float32, as the slow path has none."""
    model, jobs = make_int8_model(torch.float32, is_compiled=is_compiled), make_jobs(3)
    fast, slow = run(Scheduler(model), jobs), run(Scheduler(model, fast=False), jobs)
    for job in jobs:
        same = [a == b for a, b in zip(fast[job.id][0], slow[job.id][0], strict=False)]
        assert sum(same) >= 0.9 * len(same)


@needs_int8
@pytest.mark.parametrize("is_compiled", [False, True])
def test_logits_stay_close_to_float32(is_compiled: bool) -> None:
    weights = make_int8_model(is_compiled=is_compiled).gpt
    kind = NativeDecoder if NativeDecoder.fits(weights, torch.bfloat16) else BatchDecoder
    assert is_compiled or kind is BatchDecoder
    exact, close = GptDecoder(toy.toy_model().gpt), kind(weights, torch.bfloat16, 2)
    ids, voice = tuple(range(10, 40)), toy.voice(1).gpt_latents
    exact_row, expected = exact.prefill(ids, voice)
    close_row, ours = close.prefill(ids, voice)
    divergence, agree = [], []
    for _ in range(60):
        wanted, given = expected.logits[0].log_softmax(-1), ours.logits[0].log_softmax(-1)
        divergence.append(float((wanted.exp() * (wanted - given)).sum()))
        agree.append(int(wanted.argmax()) == int(given.argmax()))
        token = int(wanted.argmax())
        expected, ours = exact.step([exact_row], [token]), close.step([close_row], [token])
    assert sum(divergence) / len(divergence) < 0.1
    assert sum(agree) > 0.8 * len(agree)


def test_float32_rows_that_enter_and_leave_draw_the_slow_paths_tokens() -> None:
    """Greedy, one batch of 16 that fills and empties, against the slow path row by row."""
    model = toy.toy_model()
    rows = {}
    fast, slow = GptDecoder(model.gpt), ReferenceDecoder(model.gpt)
    for index in (0, 3, 15):
        ids = make_ids(index)
        row, out = slow.prefill(ids, toy.voice(index).gpt_latents)
        tokens = [int(out.logits[0].argmax())]
        for _ in range(12):
            out = slow.step([row], [tokens[-1]])
            tokens.append(int(out.logits[0].argmax()))
        rows[index] = tokens
    running: dict[int, tuple[object, list[int]]] = {}
    drawn: dict[int, list[int]] = {}
    for step in range(40):
        if step < 16:
            ids = make_ids(step)
            row, out = fast.prefill(ids, toy.voice(step).gpt_latents)
            running[step] = (row, [int(out.logits[0].argmax())])
        order = list(running)
        if not order:
            break
        output = fast.step(
            [running[index][0] for index in order],  # type: ignore[misc]
            [running[index][1][-1] for index in order],
        )
        for place, index in enumerate(order):
            running[index][1].append(int(output.logits[place].argmax()))
            if len(running[index][1]) == 13:
                drawn[index] = running.pop(index)[1]
    assert len(drawn) == 16
    assert {index: drawn[index] for index in rows} == rows


def test_a_pool_gives_its_memory_back() -> None:
    pool = CachePool(toy.toy_model().gpt.sizes, 4, 200, torch.float32, torch.device("cpu"))
    sizes = toy.toy_model().gpt.sizes
    qkv = torch.randn(10, 3, sizes.num_heads, sizes.head_dim)
    rows = [pool.open_row(10) for _ in range(3)]
    for row in rows:
        for layer in range(sizes.num_layers):
            pool.fill(row, layer, qkv)
    assert pool.used_bytes == sizes.cache_bytes(30, torch.float32)
    first, *rest = rows
    rows.clear()
    del first, row
    pool.begin_step(rest)
    assert [row.place for row in rest] == [1, 0] or [row.place for row in rest] == [0, 1]
    assert all(row.length == 11 for row in rest)
    del rest
    pool.open_row(5)
    assert pool.used_bytes == 0


def test_formats_follow_wish_processor_and_size() -> None:
    assert choose_cpu_formats("float32", 10**9).gpt == "float32"
    assert choose_cpu_formats("float32", 10**9).vocoder == torch.float32
    assert choose_cpu_formats("bfloat16", 10**9).gpt == "bfloat16"
    small, large = (choose_cpu_formats("auto", INT8_PAYS_FROM_BYTES + by) for by in (-1, 0))
    assert small.gpt == "float32"
    assert large.gpt == ("int8" if has_exact_int8() else "float32")
    assert large.reason
    assert large.reason != small.reason or not has_exact_int8()


def test_the_size_that_decides_is_that_of_the_matrices() -> None:
    state = torch.load(toy.toy_folder() / "model.pth", weights_only=True)["model"]
    assert matrix_bytes(state) == 3 * 12 * 64 * 64 * 4
    parts = quantise_state(state)
    assert len(parts) == 3 * 4 * 2
    assert {value.dtype for value in parts.values()} == {torch.int8, torch.float32}
