"""Guided sampling: the formula, the same speech alone and in company, two rows for a job."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from test_engine_int8 import make_int8_model, needs_int8
from transformers.generation.logits_process import ClassifierFreeGuidanceLogitsProcessor

from app.engine.decoder import GptDecoder
from app.engine.guidance import GuidedDecoder
from app.engine.reference import ReferenceDecoder
from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, DecodeOptions, SegmentDone, SegmentJob, SpeechModel

TEXT = (5, 9, 14, 3, 22)
DRAWN = (7, 400, 31, 31, 902)
Speech = dict[str, tuple[tuple[int, ...], bytes]]


def make_jobs(num: int, **options: object) -> list[SegmentJob]:
    """Returns jobs of which two in three are guided, each by another scale."""
    return [
        SegmentJob(
            id=str(index),
            token_ids=tuple((index * 5 + step) % 40 + 2 for step in range(6 + 3 * index)),
            conditioning=toy.voice(index % 5),
            options=DecodeOptions(
                seed=index,
                max_tokens=(50, 20, 9)[index % 3],
                guidance_scale=(1.0, 1.5, 3.0)[index % 3],
                **options,  # type: ignore[arg-type]
            ),
        )
        for index in range(num)
    ]


def run(scheduler: Scheduler, jobs: list[SegmentJob]) -> Speech:
    """Submits a job every third step and returns tokens and samples by id."""
    pending, heard, chunks = list(jobs), {}, {job.id: b"" for job in jobs}
    for step in range(10_000):
        if pending and step % 3 == 0:
            scheduler.submit(pending.pop(0))
        for event in scheduler.step():
            if isinstance(event, AudioChunk):
                chunks[event.job_id] += event.samples.tobytes()
            elif isinstance(event, SegmentDone):
                heard[event.job_id] = (event.tokens, chunks[event.job_id])
        if not pending and scheduler.is_idle:
            break
    return heard


def test_logits_are_those_of_transformers_guidance() -> None:
    """Two slow rows joined by transformers' own processor are what one guided row gives."""
    weights, voice = toy.toy_model().gpt, toy.voice(0).gpt_latents
    guided, slow = GuidedDecoder(GptDecoder(weights)), ReferenceDecoder(weights)
    row, output = guided.prefill(TEXT, voice, 2.5)
    told, with_text = slow.prefill(TEXT, voice)
    untold, without = slow.prefill((), voice)
    joined = ClassifierFreeGuidanceLogitsProcessor(2.5)
    for token in (*DRAWN, None):
        scores = torch.cat([with_text.logits, without.logits])
        wanted = without.logits + 2.5 * (with_text.logits - without.logits)
        theirs = joined(torch.zeros(1, 1, dtype=torch.long), scores)
        # theirs takes logarithms of shares first, which shifts all scores of a row alike
        shifts = (output.logits - theirs)[0]
        assert torch.allclose(shifts, shifts.mean(), atol=1e-4)
        assert torch.allclose(output.logits, wanted, atol=1e-4)
        assert torch.allclose(output.latents, with_text.latents, atol=1e-4)
        assert not torch.allclose(output.logits, with_text.logits, atol=1e-2)
        if token is not None:
            output = guided.step([row], [token])
            with_text, without = slow.step([told], [token]), slow.step([untold], [token])


def test_scale_one_is_the_unguided_row_to_the_bit() -> None:
    weights, voice = toy.toy_model().gpt, toy.voice(0).gpt_latents
    plain, guided = GptDecoder(weights), GuidedDecoder(GptDecoder(weights))
    row, output = plain.prefill(TEXT, voice)
    other, same = guided.prefill(TEXT, voice, 1.0)
    for token in DRAWN:
        assert torch.equal(output.logits, same.logits)
        output, same = plain.step([row], [token]), guided.step([other], [token])


@pytest.mark.parametrize("kind", ["float32", pytest.param("int8", marks=needs_int8)])
def test_guided_jobs_are_the_same_alone_and_beside_others(kind: str) -> None:
    model: SpeechModel = toy.toy_model() if kind == "float32" else make_int8_model()
    jobs = make_jobs(7)
    together = run(Scheduler(model, max_rows=16), jobs)
    crowded = run(Scheduler(model, max_rows=3), jobs)
    for job in jobs:
        alone = run(Scheduler(model), [job])[job.id]
        assert together[job.id] == alone
        assert crowded[job.id] == alone


def test_the_fast_path_draws_the_slow_paths_tokens() -> None:
    jobs = make_jobs(4, greedy=True, repetition_penalty=2.0)
    fast, slow = (run(Scheduler(toy.toy_model(), fast=fast), jobs) for fast in (True, False))
    for job in jobs:
        assert fast[job.id][0] == slow[job.id][0]
        samples = [np.frombuffer(speech[job.id][1], np.float32) for speech in (fast, slow)]
        np.testing.assert_allclose(*samples, atol=1e-4)
    unguided = [replace(job, options=replace(job.options, guidance_scale=1.0)) for job in jobs]
    plain = run(Scheduler(toy.toy_model()), unguided)
    assert plain["0"] == fast["0"]
    assert plain["1"][0] != fast["1"][0]


def test_a_guided_job_takes_two_rows() -> None:
    _, first, second = make_jobs(3)
    plain = make_jobs(4)[3]
    scheduler = Scheduler(toy.toy_model(), max_rows=3)
    for job in (first, second, plain):
        scheduler.submit(job)
    seen = set()
    while not scheduler.is_idle:
        scheduler.step()
        seen.add((scheduler.num_rows, scheduler.num_waiting))
    assert max(rows for rows, _ in seen) == 2, "one guided job and the plain one"


@pytest.mark.parametrize("kind", ["float32", pytest.param("int8", marks=needs_int8)])
def test_where_there_is_one_row_a_guided_job_still_goes_alone(kind: str) -> None:
    model: SpeechModel = toy.toy_model() if kind == "float32" else make_int8_model()
    jobs = make_jobs(3)
    heard = run(Scheduler(model, max_rows=1), jobs)
    assert {name: speech[0] for name, speech in heard.items()} == {
        job.id: run(Scheduler(model), [job])[job.id][0] for job in jobs
    }


def count_together(scheduler: Scheduler, jobs: list[SegmentJob]) -> int:
    """Returns how many of the jobs ran side by side at most."""
    for job in jobs:
        scheduler.submit(job)
    most = 0
    while not scheduler.is_idle:
        scheduler.step()
        most = max(most, scheduler.num_rows)
    return most


@pytest.mark.parametrize("kind", ["float32", pytest.param("int8", marks=needs_int8)])
def test_where_a_model_speaks_guided_there_is_room_for_two_rows_of_each(kind: str) -> None:
    model: SpeechModel = toy.toy_model() if kind == "float32" else make_int8_model()
    options = DecodeOptions(guidance_scale=1.5, max_tokens=12, seed=3)
    jobs = [replace(job, options=options) for job in make_jobs(5)]
    assert count_together(Scheduler(model, max_rows=4, guided=True), jobs) == 4
    assert count_together(Scheduler(model, max_rows=4), jobs) == 2


def test_the_budget_of_the_caches_counts_both_rows() -> None:
    model, voice = toy.toy_model(), toy.voice(0)
    plain = [replace(job, options=DecodeOptions(max_tokens=12)) for job in make_jobs(2)]
    guided = replace(plain[1], options=DecodeOptions(max_tokens=12, guidance_scale=2.0))
    positions = [voice.gpt_latents.shape[1] + len(job.token_ids) + 3 + 12 for job in plain]
    budget = model.gpt.sizes.cache_bytes(sum(positions), model.cache_dtype)
    assert count_together(Scheduler(model, cache_bytes=budget), plain) == 2
    assert count_together(Scheduler(model, cache_bytes=budget), [plain[0], guided]) == 1
