"""The same work on many items in several processes, in order, without holding all results.

A process that dies (a decoder met a file that it can't stand) costs the item that killed it and
nothing else. Knows nothing of clips.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
#: With fewer items than this, starting processes takes longer than the work.
_MIN_ITEMS_FOR_PROCESSES = 24
_CHUNKS_AHEAD = 3


def num_processes(wanted: int) -> int:
    """Returns how many processes to use; 0 asks for one on each processor we may use."""
    if wanted:
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_processes(
    work: Callable[[ItemT], ResultT],
    items: Sequence[ItemT],
    *,
    workers: int,
    on_crash: Callable[[ItemT], ResultT],
    chunk: int = 8,
) -> Iterator[ResultT]:
    """Yields the result of each item, in order.

    Args:
        work: picklable, as are its arguments and results. What it raises ends the iteration.
        items: all work.
        workers: processes; with few items the work is done here.
        on_crash: makes the result of an item that killed its process.
        chunk: items that are sent together.
    """
    if len(items) < _MIN_ITEMS_FOR_PROCESSES:
        yield from map(work, items)
        return
    crew = _Crew(work, workers, on_crash)
    try:
        chunks = (items[start : start + chunk] for start in range(0, len(items), chunk))
        yield from crew.run(chunks, workers * _CHUNKS_AHEAD)
    finally:
        crew.stop()


def _run_chunk(work: Callable[[ItemT], ResultT], chunk: Sequence[ItemT]) -> list[ResultT]:
    return [work(item) for item in chunk]


class _Crew(Generic[ItemT, ResultT]):
    def __init__(
        self,
        work: Callable[[ItemT], ResultT],
        workers: int,
        on_crash: Callable[[ItemT], ResultT],
    ) -> None:
        self._work = work
        self._workers = workers
        self._on_crash = on_crash
        self._pool = self._start(workers)
        self._pending: deque[tuple[Sequence[ItemT], Future[list[ResultT]]]] = deque()

    def run(self, chunks: Iterator[Sequence[ItemT]], num_ahead: int) -> Iterator[ResultT]:
        for chunk in chunks:
            self._submit(chunk)
            if len(self._pending) > num_ahead:
                yield from self._take()
        while self._pending:
            yield from self._take()

    def stop(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self, workers: int) -> ProcessPoolExecutor:
        # Forked children of a process that has threads (torch's, rich's) may hang.
        return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))

    def _submit(self, chunk: Sequence[ItemT]) -> None:
        try:
            future = self._pool.submit(_run_chunk, self._work, chunk)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        self._pending.append((chunk, future))

    def _take(self) -> list[ResultT]:
        chunk, future = self._pending.popleft()
        try:
            return future.result()
        except BrokenProcessPool:
            results = [self._alone(item) for item in chunk]
        # Which of the chunks under way killed the pool is not known, so all of them start anew.
        waiting = [other for other, _ in self._pending]
        self.stop()
        self._pool = self._start(self._workers)
        self._pending.clear()
        for other in waiting:
            self._submit(other)
        return results

    def _alone(self, item: ItemT) -> ResultT:
        with self._start(1) as pool:
            try:
                return pool.submit(_run_chunk, self._work, [item]).result()[0]
            except BrokenProcessPool:
                return self._on_crash(item)
