"""The worker's synthesizer: many requests over one model and one batch.

Single-threaded: the loop that owns it submits, cancels and steps. Knows no socket and no process.
"""

from __future__ import annotations

import logging

import msgspec
import torch

from app.devices.faults import MEMORY_FAULTS
from app.engine.scheduler import Scheduler
from app.engine.types import Conditioning, Event, SegmentFailed
from app.errors import AudioVoiceError, DeviceError, OutputError
from app.messages import Audio, DeviceMemory, Done, Failed, PrepareVoice, Speak
from app.models.capacity import Capacity, choose_capacity
from app.models.loading import LoadedModel
from app.settings import Settings
from app.synthesis.info import ModelInfo
from app.synthesis.memory import give_back, naming_faults, read_memory, trim_heap
from app.synthesis.planning import Planner
from app.synthesis.pressure import RowLimit
from app.synthesis.request import Emit, SpeechPlan, SpeechRequest
from app.synthesis.stages import StageMeter
from app.voices.latents import VoiceLatents

_log = logging.getLogger(__name__)


class Synthesizer:
    """Speaks for many requests at once.

    Args:
        model: what speaks.
        latents: gives a voice's conditioning by the voice's name.
        settings: chunk sizes, retries, the default language.
        info: what is told about the model.
        capacity: rows, and the room for their caches; a CPU's if left out.
    """

    def __init__(
        self,
        model: LoadedModel,
        latents: VoiceLatents,
        settings: Settings,
        info: ModelInfo,
        capacity: Capacity | None = None,
    ) -> None:
        self.info = info
        self._model = model
        self._latents = latents
        self._settings = settings
        self._capacity = capacity or choose_capacity(settings, "cpu")
        self._planner = Planner(model, settings, self._capacity.rows.most)
        self._limit = RowLimit(self._capacity.rows.most)
        self._meter = StageMeter(model.speech.gpt.device)
        self._scheduler = self._make_scheduler()
        self._requests: dict[str, SpeechRequest] = {}
        self._checks_itself = False

    @property
    def num_rows(self) -> int:
        """Segments being decoded."""
        return self._scheduler.num_rows

    @property
    def num_waiting(self) -> int:
        """Segments that wait for a row."""
        return self._scheduler.num_waiting

    def device_memory(self) -> DeviceMemory | None:
        """Returns the memory of the device now; None on a CPU."""
        memory = read_memory(self._device)
        if memory is None:
            return None
        peak = max(memory.peak_bytes, self._meter.reserved_bytes)
        return msgspec.structs.replace(memory, peak_bytes=peak)

    def stage_peaks(self) -> dict[str, int]:
        """Returns the most memory in bytes while each stage of the work went on."""
        return dict(self._meter.peaks)

    def submit(self, message: Speak, emit: Emit) -> None:
        """Plans a request and puts its first segments into the batch.

        What comes of it goes to `emit`: `Audio` in order, then one `Done` or one `Failed`.

        Raises:
            AudioVoiceError: the request can't be made; nothing of it is in the batch.
            DeviceError: the device can't go on.
        """
        request = SpeechRequest(self._plan(message), self._scheduler, emit)
        try:
            request.start()
        except AudioVoiceError:
            request.cancel()
            raise
        self._requests[message.id] = request

    def prepare_voice(self, message: PrepareVoice, emit: Emit) -> None:
        """Computes and caches a voice's conditioning, then emits `Done`.

        Raises:
            AudioVoiceError: there is no such voice, or its clip can't be used.
        """
        self._conditioning(message.voice)
        emit(Done(id=message.id))

    def cancel(self, request_id: str) -> None:
        """Ends a request before the next step; an unknown id is ignored."""
        request = self._requests.pop(request_id, None)
        if request:
            request.cancel()

    def step(self) -> bool:
        """Decodes one token for every row and hands out what is ready; False when idle.

        Raises:
            DeviceError: the device can't go on: no memory for a single row, a fault of the stack,
                or numbers that are none whatever is spoken.
        """
        if self._scheduler.is_idle:
            if self._limit.grow():
                self._scheduler = self._make_scheduler()
            return False
        for event in self._step_scheduler():
            request_id = event.job_id.rsplit("/", 2)[0]
            request = self._requests.get(request_id)
            if request is None:
                continue
            request.handle(event)
            if request.is_over:
                self._requests.pop(request_id, None)
                if isinstance(event, SegmentFailed):
                    self._check_itself()
        return True

    def _step_scheduler(self) -> list[Event]:
        """Makes one step; when memory runs out, none is made and all begin anew, fewer at once."""
        try:
            with naming_faults(self._device):
                return self._scheduler.step()
        except DeviceError as error:
            if error.code not in MEMORY_FAULTS:
                raise
            fault = DeviceError(error.message, code=error.code)
        # Only here, where the error is gone, do the frames of the failed step let go of memory.
        self._make_room(fault)
        return []

    def _make_room(self, fault: DeviceError) -> None:
        """Drops all rows, frees what is cached, and goes on with half as many rows.

        Raises:
            DeviceError: a single row was too much already.
        """
        if not self._limit.shrink(self._scheduler.num_rows):
            raise fault
        self._scheduler = self._make_scheduler()
        give_back(self._device)
        _log.warning("%s; now at most %d segments at once", fault.message, self._limit.rows)
        note = f"made with at most {self._limit.rows} segments at once, because memory ran out"
        for request in self._requests.values():
            request.move_to(self._scheduler, self._route, note)

    def _conditioning(self, voice: str) -> Conditioning:
        """Returns a voice; when memory runs out, tries once more with fewer rows beside it."""
        try:
            with naming_faults(self._device), self._meter("conditioning"):
                return self._latents.get(voice)
        except DeviceError as error:
            if error.code not in MEMORY_FAULTS:
                raise
            fault = DeviceError(error.message, code=error.code)
        if self._scheduler.is_idle:
            give_back(self._device)
        else:
            self._make_room(fault)
        with naming_faults(self._device):
            return self._latents.get(voice)

    def _make_scheduler(self) -> Scheduler:
        return Scheduler(
            self._model.speech,
            max_rows=self._limit.rows,
            first_chunk_tokens=self._settings.first_chunk_tokens,
            chunk_tokens=self._settings.chunk_tokens,
            cache_bytes=self._capacity.cache_bytes,
            fast=self._settings.engine_fast,
            watch=self._meter,
            guided=self._model.sampling.guidance_scale != 1,
        )

    @property
    def _device(self) -> torch.device:
        return self._model.speech.gpt.device

    @property
    def _route(self) -> str:
        """Where requests are made, and what they are held to."""
        rows = f"; rows={self._limit.rows}" if self._limit.is_reduced else ""
        return f"{self.info.device}{rows}"

    def _check_itself(self) -> None:
        """After a request whose numbers were none at every try: is it the request, or the device?

        Speaks the first sentence again, beside the others; if that fails too, `step` raises.
        """
        voice = self._model.default_voice  # of the bundle: an uploaded one may be at fault itself
        if not self._checks_itself and voice in self._model.voices:
            self._checks_itself = True
            self.submit(self._planner.first_sentence(voice), self._note_self_check)

    def _note_self_check(self, message: Audio | Done | Failed) -> None:
        if isinstance(message, Audio):
            return
        self._checks_itself = False
        if isinstance(message, Failed):
            raise DeviceError(
                f"The model gives wrong numbers on {self.info.device}, whatever it speaks: "
                f"{message.error['message']}",
                code="numbers_wrong",
            )

    def warm_up(self) -> None:
        """Speaks one sentence, checks it and throws it away: the first request finds all warm.

        Raises:
            OutputError: the model does not speak.
            AudioVoiceError: it can't even begin to.
        """
        self._planner.prepare()
        voice = self._settings.default_voice or self._model.default_voice
        if not voice:
            _log.warning("model %s brings no voice: not warmed up", self._model.name)
            return
        outcome: list[Done | Failed] = []

        def keep(message: Audio | Done | Failed) -> None:
            if not isinstance(message, Audio):
                outcome.append(message)

        self.submit(self._planner.first_sentence(voice), keep)
        while not outcome:
            self.step()
        if isinstance(outcome[0], Failed):
            raise OutputError(
                f"The model {self._model.name} did not speak its first sentence: "
                f"{outcome[0].error['message']}",
                code="warm_up_failed",
            )
        trim_heap()

    def _plan(self, message: Speak) -> SpeechPlan:
        return self._planner.plan(message, self._conditioning(message.voice), self._route)
