"""The whole fast path against the whole slow one, through the same scheduler."""

from __future__ import annotations

import numpy as np
import toy

from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, DecodeOptions, SegmentDone, SegmentJob


def speak(fast: bool) -> dict[str, tuple[tuple[int, ...], bool, np.ndarray]]:
    scheduler = Scheduler(toy.toy_model(), fast=fast, max_rows=2)
    for index, options in enumerate(
        (
            DecodeOptions(greedy=True, repetition_penalty=2.0, max_tokens=50),
            DecodeOptions(seed=4, repetition_penalty=2.0),
            DecodeOptions(seed=5, top_k=0, top_p=1.0, max_tokens=30),
        )
    ):
        token_ids = tuple(range(4, 20 + 5 * index))
        job = SegmentJob(str(index), token_ids, toy.voice(index), options, speed=1 + 0.25 * index)
        scheduler.submit(job)
    chunks: dict[str, list[np.ndarray]] = {}
    heard = {}
    while not scheduler.is_idle:
        for event in scheduler.step():
            if isinstance(event, AudioChunk):
                chunks.setdefault(event.job_id, []).append(event.samples)
            elif isinstance(event, SegmentDone):
                samples = np.concatenate(chunks[event.job_id])
                heard[event.job_id] = (event.tokens, event.stopped, samples)
    return heard


def test_the_fast_path_speaks_as_the_slow_one() -> None:
    fast, slow = speak(fast=True), speak(fast=False)
    assert fast.keys() == slow.keys() == {"0", "1", "2"}
    for name, (tokens, stopped, samples) in fast.items():
        slow_tokens, slow_stopped, slow_samples = slow[name]
        assert (tokens, stopped) == (slow_tokens, slow_stopped)
        assert samples.shape == slow_samples.shape
        assert np.abs(samples - slow_samples).max() < 1e-4 * np.abs(slow_samples).max()
