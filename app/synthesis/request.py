"""One request on its way: segments made side by side, checked, and handed out in order.

Not live: a segment leaves when it is complete and has passed its checks, so a bad one can be made
again with another seed and nobody hears it. Live: the segment whose turn it is leaves chunk by
chunk, each chunk checked on its own; once part of a segment has left it can't be made again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.audio.joints import pause_s_after
from app.audio.pcm import BYTES_PER_SAMPLE, to_s16
from app.audio.validate import ChunkChecker, check_segment, longest_plausible_s
from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, Conditioning, DecodeOptions, Event, SegmentDone, SegmentJob
from app.errors import AudioVoiceError, OutputError, UnavailableError
from app.messages import Audio, Done, Failed, Speak, Verdict
from app.synthesis.seeds import segment_seed
from app.synthesis.take import Take
from app.text.plan import Segment

Emit = Callable[[Audio | Done | Failed], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeechPlan:
    """All that is settled before the first token of a request is drawn.

    `tokens_per_s` is the model's rate of audio tokens at speed 1. `route` is told in the verdict.
    """

    message: Speak
    segments: Sequence[Segment]
    conditioning: Conditioning
    options: DecodeOptions
    retries: int
    max_side_by_side: int
    sample_rate: int
    tokens_per_s: float
    route: str = ""


class SpeechRequest:
    """Drives the segments of one request through a scheduler and hands out what passes."""

    def __init__(self, plan: SpeechPlan, scheduler: Scheduler, emit: Emit) -> None:
        self._plan = plan
        self._scheduler = scheduler
        self._emit = emit
        self._takes: dict[int, Take] = {}
        self._checkers: dict[int, ChunkChecker] = {}
        self._next_to_start = 0
        self._head = 0
        self._retries = 0
        self._notes: list[str] = []
        self._route = plan.route
        self._num_tokens = 0
        self.is_over = False

    def start(self) -> None:
        """Submits the first segments.

        Raises:
            InputError: the scheduler refuses one of them.
        """
        self._start_segments()

    def cancel(self) -> None:
        """Takes every segment out of the batch; nothing more is emitted."""
        self.is_over = True
        for take in self._takes.values():
            self._scheduler.cancel(take.job_id)
        self._takes.clear()

    def move_to(self, scheduler: Scheduler, route: str, note: str) -> None:
        """Begins the segments under way anew in another scheduler: same seeds, so same samples.

        Args:
            scheduler: the one to go on in; the former is gone with all it ran.
            route: for the verdict.
            note: for the verdict, why.
        """
        self._scheduler = scheduler
        self._route = route
        self._notes.append(note)
        for index in sorted(self._takes):
            take = self._takes[index]
            if not take.is_complete:
                heard = take.samples[: take.handed_out] if take.handed_out else None
                self._submit(replace(take, heard=take.heard if heard is None else heard))

    def fail(self, error: AudioVoiceError) -> None:
        """Ends the request with an error."""
        self.cancel()
        self._emit(Failed(id=self._plan.message.id, error=error.to_dict()))

    def handle(self, event: Event) -> None:
        """Takes one event of the scheduler; events of tries given up are passed over."""
        take = next((t for t in self._takes.values() if t.job_id == event.job_id), None)
        if take is None:
            return
        if isinstance(event, AudioChunk):
            self._add_chunk(take, event)
        elif isinstance(event, SegmentDone):
            self._complete(take, event)
        else:
            self._try_again(take, event.message)

    def _start_segments(self) -> None:
        """Keeps a bounded number of segments between the one whose turn it is and the newest."""
        segments = self._plan.segments
        limit = min(len(segments), self._head + self._plan.max_side_by_side)
        while self._next_to_start < limit:
            index = self._next_to_start
            self._next_to_start += 1
            self._submit(Take(index, segments[index], job_id=""))

    def _submit(self, take: Take) -> None:
        plan, speed = self._plan, self._plan.message.speed
        take = replace(take, job_id=f"{plan.message.id}/{take.index}/{take.attempt}", chunks=[])
        seed = segment_seed(plan.options.seed, take.index, take.attempt)
        self._scheduler.submit(
            SegmentJob(
                id=take.job_id,
                token_ids=take.segment.token_ids,
                conditioning=plan.conditioning,
                options=replace(plan.options, seed=seed, max_tokens=self._max_tokens(take)),
                speed=speed,
                priority=take.index,
                group=plan.message.id,
            )
        )
        longest_s = self._longest_s(take) / speed
        self._checkers[take.index] = ChunkChecker(plan.sample_rate, longest_s=longest_s)
        self._takes[take.index] = take

    def _longest_s(self, take: Take) -> float:
        """Returns the longest plausible duration of a segment at speed 1, in seconds."""
        return longest_plausible_s(take.segment.spoken, take.segment.language)

    def _max_tokens(self, take: Take) -> int:
        """A run-on is stopped where it has become one, not at the model's own limit."""
        return math.ceil(self._longest_s(take) * self._plan.tokens_per_s) + 1

    def _add_chunk(self, take: Take, event: AudioChunk) -> None:
        fault = self._checkers[take.index].check(event.samples)
        if fault:
            self._try_again(take, fault)
            return
        take.chunks.append(event.samples)
        if take.contradicts_itself:
            self.fail(
                UnavailableError(
                    "The device's memory ran out, and what was heard of this request can't be "
                    "continued; try again."
                )
            )
        elif self._plan.message.live and take.index == self._head:
            self._hand_out(take)

    def _complete(self, take: Take, event: SegmentDone) -> None:
        check = check_segment(
            take.samples,
            self._plan.sample_rate,
            spoken=take.segment.spoken,
            language=take.segment.language,
            speed=self._plan.message.speed,
            stopped=event.stopped,
        )
        if not check.ok:
            self._try_again(take, check.explanation)
            return
        take.is_complete = True
        take.num_tokens = len(event.tokens)
        self._release_heads()

    def _release_heads(self) -> None:
        """Hands out every complete segment whose turn has come, and what is ready of the next."""
        while (take := self._takes.get(self._head)) and take.is_complete:
            self._head += 1
            self._num_tokens += take.num_tokens
            self._hand_out(take, is_last_of_segment=True)
            del self._takes[take.index], self._checkers[take.index]
        if self._head == len(self._plan.segments):
            self._finish()
            return
        if take and self._plan.message.live:
            self._hand_out(take)
        self._start_segments()

    def _hand_out(self, take: Take, *, is_last_of_segment: bool = False) -> None:
        pcm = to_s16(take.take_new())
        num_segments = len(self._plan.segments)
        if is_last_of_segment and take.index + 1 < num_segments:
            pause_s = pause_s_after(take.segment.text) / self._plan.message.speed
            pcm += bytes(round(pause_s * self._plan.sample_rate) * BYTES_PER_SAMPLE)
        if pcm:
            self._emit(
                Audio(
                    id=self._plan.message.id,
                    segment=take.index,
                    num_segments=num_segments,
                    pcm=pcm,
                    verdict=self._verdict(),
                )
            )

    def _try_again(self, take: Take, fault: str) -> None:
        """Makes a segment again with another seed, if that can help and none of it has left."""
        self._scheduler.cancel(take.job_id)
        where = f"segment {take.index + 1} of {len(self._plan.segments)}"
        _log.warning(
            "request %s, %s, try %d: %s", *(self._plan.message.id, where, take.attempt + 1, fault)
        )
        can_differ = not self._plan.options.greedy
        if take.handed_out == 0 and can_differ and take.attempt < self._plan.retries:
            self._retries += 1
            self._notes.append(f"{where} made again: {fault}")
            self._submit(replace(take, attempt=take.attempt + 1))
            return
        tries = "one try" if take.attempt == 0 else f"{take.attempt + 1} tries"
        self.fail(
            OutputError(
                f"The audio of {where} did not pass its checks in {tries} "
                f"({fault}); change the text, the voice or the seed."
            )
        )

    def _verdict(self) -> Verdict:
        return Verdict(
            status="retried" if self._retries else "ok",
            segments=self._head,
            retries=self._retries,
            notes=list(self._notes),
            route=self._route,
        )

    def _finish(self) -> None:
        self.is_over = True
        self._emit(
            Done(
                id=self._plan.message.id,
                verdict=self._verdict(),
                text_tokens=sum(len(segment.token_ids) for segment in self._plan.segments),
                audio_tokens=self._num_tokens,
                language=self._plan.segments[0].language,
                seed=self._plan.options.seed,
            )
        )
