"""Continuous batching: segments of all requests decode side by side, step by step.

Knows jobs and rows; knows nothing of requests, of text, or of who listens. Single-threaded: one
loop owns a scheduler, submits, cancels and steps it. What a job gives does not depend on the jobs
beside it, to the bit on a CPU; on a GPU within rounding (`graph_decoder`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol

import torch

from app.engine.batch_decoder import NUM_VOICE, BatchDecoder
from app.engine.batch_vocoder import BatchVocoder
from app.engine.decoder import Decoder, GptDecoder
from app.engine.gpt_weights import NUM_SPECIAL, GptSizes
from app.engine.graph_decoder import GraphDecoder
from app.engine.guidance import GuidedDecoder
from app.engine.job_row import JobRow, chunk_sizes
from app.engine.native_decoder import NativeDecoder
from app.engine.pieces import OneByOne, PieceVocoder
from app.engine.reference import ReferenceDecoder, ReferenceVocoder
from app.engine.types import Event, SegmentJob, SpeechModel
from app.engine.vocoder import Vocoder, num_latents_for
from app.errors import ConflictError, InputError

# Beyond these a voice is no longer one; stock itself stops at 0.05.
_MIN_SPEED, _MAX_SPEED = 0.1, 10.0
# One row in so many is kept for first segments, so that a new request need not wait for the end of
# somebody's long text.
_ROWS_PER_RESERVED = 4
_ROWS_GUIDED = 2  # one with the text, one without
# A first chunk of less is not worth its work: the vocoder holds back what lies beside the end.
_LEAST_SOUND_S = 0.1


class StageWatch(Protocol):
    """Is told which stage of the work a block belongs to: `prefill`, `decode`, `vocoder`."""

    def __call__(self, stage: str) -> AbstractContextManager[None]:
        """Returns what the block runs in."""


def _unwatched(stage: str) -> AbstractContextManager[None]:  # noqa: ARG001
    return nullcontext()


class Scheduler:
    """Runs jobs in a batch that rows enter and leave at any step.

    Args:
        model: what speaks.
        max_rows: most jobs decoded side by side.
        first_chunk_tokens: audio tokens in a job's first chunk of audio; more where so few give
            hardly any sound.
        chunk_tokens: most audio tokens in a later chunk; chunks double from the first to this.
        cache_bytes: room for the keys and values of all rows; a row that goes alone may be larger.
        fast: False takes the slow reference path, which gives all audio in one last chunk.
        watch: told of each stage; nobody if left out.
        guided: True where jobs are mostly guided: there is room for two rows of each. Without, a
            guided job takes the room of two others.
    """

    def __init__(
        self,
        model: SpeechModel,
        *,
        max_rows: int = 16,
        first_chunk_tokens: int = 8,
        chunk_tokens: int = 40,
        cache_bytes: int | None = None,
        fast: bool = True,
        watch: StageWatch = _unwatched,
        guided: bool = False,
    ) -> None:
        self._model = model
        self._watch = watch
        self._max_rows = max_rows
        self._first_chunk_tokens = first_chunk_tokens
        self._most_chunk_tokens = max(first_chunk_tokens, chunk_tokens)
        self._cache_bytes = cache_bytes
        # one guided job can always go alone
        self._max_decoded = max_rows * _ROWS_GUIDED if guided else max(max_rows, _ROWS_GUIDED)
        decoder, self._vocoder = _make_parts(model, self._max_decoded, fast)
        self._decoder = GuidedDecoder(decoder)
        self._waiting: list[SegmentJob] = []
        self._rows: list[JobRow] = []

    @property
    def num_rows(self) -> int:
        """Jobs being decoded."""
        return len(self._rows)

    @property
    def num_waiting(self) -> int:
        """Jobs that wait for a row."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """True where `step` has nothing to do."""
        return not self._rows and not self._waiting

    def submit(self, job: SegmentJob) -> None:
        """Queues a job; it enters the batch in a later `step`, first segments before later ones.

        Raises:
            InputError: the text is empty, too long or holds an unknown token, the speed is out of
                range, or the voice was made for another model.
            ConflictError: a job of this id is waiting or running.
        """
        if any(job.id == other for other in self._job_ids()):
            raise ConflictError(f"A job {job.id} is running already; give each its own id.")
        _check_job(job, self._model)
        self._waiting.append(job)

    def cancel(self, job_id: str) -> bool:
        """Forgets a job, waiting or running, at once; it makes no further event.

        Returns:
            False where there is no such job (any more).
        """
        num_before = len(self._rows) + len(self._waiting)
        self._rows = [row for row in self._rows if row.job.id != job_id]
        self._waiting = [job for job in self._waiting if job.id != job_id]
        return len(self._rows) + len(self._waiting) < num_before

    def step(self) -> list[Event]:
        """Admits a waiting job, decodes one token for every row, and returns what came of it.

        A job's events are any number of `AudioChunk` in order, then one `SegmentDone` or
        `SegmentFailed`. Empty where nothing is due, and at once where the scheduler is idle.
        """
        running = list(self._rows)
        if running:
            states, tokens = [row.state for row in running], [row.tokens[-1] for row in running]
            with self._watch("decode"):
                output = self._decoder.step(states, tokens)
            for place, row in enumerate(running):
                row.accept(output.logits[place], output.latents[place])
        # one a step, so that rows under way wait for one prefill at most
        job = self._next_job()
        if job is not None:
            self._waiting.remove(job)
            self._admit(job)
        events = self._sound()
        self._rows = [row for row in self._rows if not row.is_done]
        return events

    def _next_job(self) -> SegmentJob | None:
        """Returns the waiting job whose turn it is; None where it has to wait for room.

        First segments in the order they came; then others, of the request with the fewest rows
        first, and never into the rows kept for first segments, nor before their own request can be
        heard. Nobody overtakes for being small.
        """
        # a later segment's prefill would come between the request and its first audio
        unheard = {row.job.group for row in self._rows if self._is_opening(row)}
        ready = [job for job in self._waiting if not job.priority or job.group not in unheard]
        if not ready:
            return None
        rows_of = Counter(row.job.group for row in self._rows)
        job = min(ready, key=lambda job: (job.priority > 0, rows_of[job.group]))
        return job if self._has_row(job) and self._has_room(job) else None

    @staticmethod
    def _is_opening(row: JobRow) -> bool:
        """Says whether a row is a request's first segment whose first chunk nobody has yet."""
        return row.job.priority == 0 and not row.has_sounded

    def _has_row(self, job: SegmentJob) -> bool:
        """Says whether there is a row, and for a later segment one not kept for first ones."""
        decoded = sum(_num_rows(row.job) for row in self._rows) + _num_rows(job)
        if len(self._rows) >= self._max_rows or decoded > self._max_decoded:
            return False
        num_open = self._max_rows - self._max_rows // _ROWS_PER_RESERVED
        num_later = sum(row.job.priority > 0 for row in self._rows)
        return job.priority == 0 or num_later < num_open

    def _has_room(self, job: SegmentJob) -> bool:
        """Says whether the caches of all rows fit their budget, each as long as it may become."""
        if self._cache_bytes is None or not self._rows:
            return True
        sizes = self._model.gpt.sizes
        positions = sum(_most_positions(row.job, sizes) for row in self._rows)
        positions += _most_positions(job, sizes)
        return sizes.cache_bytes(positions, self._model.cache_dtype) <= self._cache_bytes

    def _admit(self, job: SegmentJob) -> None:
        with self._watch("prefill"):
            state, output = self._decoder.prefill(
                job.token_ids, job.conditioning.gpt_latents, job.options.guidance_scale
            )
        stream = self._vocoder.begin(job.conditioning.speaker_embedding, job.speed)
        row = JobRow(job, self._model.gpt.sizes, state, stream, self._chunk_sizes(job.speed))
        self._rows.append(row)
        row.accept(output.logits[0], output.latents[0])

    def _chunk_sizes(self, speed: float) -> Iterator[int]:
        first = self._first_chunk_tokens
        needed = num_latents_for(self._model.vocoder, _LEAST_SOUND_S, speed)
        return chunk_sizes(max(first, needed), first, self._most_chunk_tokens)

    def _sound(self) -> list[Event]:
        """Vocodes what is due of all rows, and returns what came of the step, row by row."""
        taken = [(row, piece) for row in self._rows if (piece := row.take_piece())]
        samples: dict[str, torch.Tensor] = {}
        if taken:
            with self._watch("vocoder"):
                made = self._vocoder.push([piece for _, piece in taken])
            samples = {row.job.id: own for (row, _), own in zip(taken, made, strict=True)}
        return [event for row in self._rows for event in row.events(samples.get(row.job.id))]

    def _job_ids(self) -> Iterator[str]:
        yield from (row.job.id for row in self._rows)
        yield from (job.id for job in self._waiting)


def _make_parts(model: SpeechModel, max_rows: int, fast: bool) -> tuple[Decoder, PieceVocoder]:
    """Returns what decodes, and what turns latents into samples."""
    if not fast:
        return ReferenceDecoder(model.gpt), OneByOne(partial(ReferenceVocoder, model.vocoder))
    is_cuda = model.gpt.device.type == "cuda"
    vocoder: PieceVocoder = (
        BatchVocoder(model.vocoder) if is_cuda else OneByOne(Vocoder(model.vocoder).stream)
    )
    if NativeDecoder.fits(model.gpt, model.cache_dtype):
        return NativeDecoder(model.gpt, model.cache_dtype, max_rows), vocoder
    if model.gpt.is_int8:
        return BatchDecoder(model.gpt, model.cache_dtype, max_rows), vocoder
    if is_cuda:
        return GraphDecoder(model.gpt, max_rows), vocoder
    return GptDecoder(model.gpt), vocoder


def _num_rows(job: SegmentJob) -> int:
    return 1 if job.options.guidance_scale == 1 else _ROWS_GUIDED


def _most_positions(job: SegmentJob, sizes: GptSizes) -> int:
    """Returns how long a job's rows may become, all of them together."""
    most_audio = min(job.options.max_tokens or sizes.max_audio_tokens, sizes.max_audio_tokens)
    either = job.conditioning.gpt_latents.shape[1] + NUM_SPECIAL + most_audio
    return len(job.token_ids) + _num_rows(job) * either


def _check_job(job: SegmentJob, model: SpeechModel) -> None:
    """Raises InputError where the model can't run the job."""
    sizes, voice = model.gpt.sizes, job.conditioning
    if not 0 < len(job.token_ids) <= sizes.max_text_tokens:
        raise InputError(
            f"A segment has {len(job.token_ids)} text tokens; this model takes 1 to "
            f"{sizes.max_text_tokens}: split the text.",
            param="input",
        )
    if not all(0 <= token < sizes.num_text_tokens for token in job.token_ids):
        raise InputError(
            "A text token is unknown to this model: use its own vocab.json.", param="input"
        )
    if not _MIN_SPEED <= job.speed <= _MAX_SPEED:
        raise InputError(
            f"speed={job.speed} is out of range: it must be between {_MIN_SPEED} and {_MAX_SPEED}.",
            param="speed",
        )
    wanted = ((1, sizes.model_dim), (1, model.vocoder.sizes.speaker_dim, 1))
    latents, embedding = voice.gpt_latents.shape, voice.speaker_embedding.shape
    fits = len(latents) == 3 and 0 < latents[1] <= NUM_VOICE
    if not fits or ((latents[0], latents[2]), tuple(embedding)) != wanted:
        raise InputError(
            "This voice was made for another model: prepare it again with this one.", param="voice"
        )
