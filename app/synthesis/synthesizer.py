"""The worker's synthesizer: many requests over one model and one batch.

Single-threaded: the loop that owns it submits, cancels and steps. Knows no socket and no process.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from app.audio.validate import longest_plausible_s
from app.devices.faults import MEMORY_FAULTS
from app.engine.scheduler import Scheduler
from app.engine.types import Conditioning, DecodeOptions, Event, SegmentFailed
from app.errors import AudioVoiceError, DeviceError, InputError, OutputError
from app.messages import Audio, DeviceMemory, Done, Failed, PrepareVoice, Sampling, Speak
from app.models.loading import LoadedModel
from app.settings import Settings
from app.synthesis.info import ModelInfo
from app.synthesis.memory import give_back, naming_faults, read_memory
from app.synthesis.pressure import RowLimit
from app.synthesis.request import Emit, SpeechPlan, SpeechRequest
from app.synthesis.seeds import SEED_LIMIT, new_seed
from app.text.plan import plan_segments
from app.voices.latents import VoiceLatents

#: What is spoken once before a model counts as ready, in the first of its languages listed here.
WARM_UP_TEXTS = {
    "en": "The wind rose before the morning came.",
    "pt": "O vento aumentou antes de chegar a manhã.",
    "de": "Der Wind nahm zu, bevor der Morgen kam.",
    "es": "El viento se levantó antes de que llegara la mañana.",
    "fr": "Le vent s'est levé avant le matin.",
}
_WARM_UP_ID = "warm-up"
#: A segment's longest plausible duration may be this many times the audio the model can make in
#: one go: a calm reader takes half of it. Of the segments of a legal text the small model's 13.8 s
#: were too short for one in 18 at 200 characters, and for none in 69 at 150 and 120.
_PLAUSIBLE_PER_CALM = 2.0

_log = logging.getLogger(__name__)


class Synthesizer:
    """Speaks for many requests at once.

    Args:
        model: what speaks.
        latents: gives a voice's conditioning by the voice's name.
        settings: batch and chunk sizes, retries, the default language.
        info: what is told about the model.
    """

    def __init__(
        self, model: LoadedModel, latents: VoiceLatents, settings: Settings, info: ModelInfo
    ) -> None:
        self.info = info
        self._model = model
        self._latents = latents
        self._settings = settings
        self._limit = RowLimit(settings.max_batch_rows)
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
        return read_memory(self._device)

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
            with naming_faults(self._device):
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
            self.submit(self._first_sentence(voice), self._note_self_check)

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
        voice = self._settings.default_voice or self._model.default_voice
        if not voice:
            _log.warning("model %s brings no voice: not warmed up", self._model.name)
            return
        outcome: list[Done | Failed] = []

        def keep(message: Audio | Done | Failed) -> None:
            if not isinstance(message, Audio):
                outcome.append(message)

        self.submit(self._first_sentence(voice), keep)
        while not outcome:
            self.step()
        if isinstance(outcome[0], Failed):
            raise OutputError(
                f"The model {self._model.name} did not speak its first sentence: "
                f"{outcome[0].error['message']}",
                code="warm_up_failed",
            )

    def _first_sentence(self, voice: str) -> Speak:
        languages = self._model.languages
        language = next((code for code in languages if code in WARM_UP_TEXTS), languages[0])
        text = WARM_UP_TEXTS.get(language, WARM_UP_TEXTS["en"])
        return Speak(id=_WARM_UP_ID, text=text, voice=voice, language=language, seed=0)

    def _plan(self, message: Speak) -> SpeechPlan:
        model = self._model
        conditioning = self._conditioning(message.voice)
        segments = plan_segments(
            message.text,
            language=message.language,
            tokenizer=model.tokenizer,
            supported=model.languages,
            default_language=self._fallback_language(),
            max_tokens=model.max_text_tokens,
            is_sayable=self._is_sayable,
        )
        return SpeechPlan(
            message=message,
            segments=segments,
            conditioning=conditioning,
            options=self._options(message.sampling, message.seed),
            retries=self._settings.output_retries,
            max_side_by_side=self._settings.max_batch_rows,
            sample_rate=model.sample_rate,
            tokens_per_s=self._tokens_per_s,
            route=self._route,
        )

    @property
    def _tokens_per_s(self) -> float:
        sizes = self._model.speech.vocoder.sizes
        return sizes.input_sample_rate / sizes.code_stride

    def _is_sayable(self, spoken: str, language: str) -> bool:
        """Whether the model can say a piece in one go: it learnt such lengths, and a calm reader
        says it within the longest audio it can make.
        """
        longest_text = self._model.max_segment_chars
        if longest_text is not None and len(spoken) > longest_text:
            return False
        longest_audio_s = self._model.speech.max_audio_tokens / self._tokens_per_s
        return longest_plausible_s(spoken, language) <= _PLAUSIBLE_PER_CALM * longest_audio_s

    def _fallback_language(self) -> str:
        """The language of text that says nothing of its own: the setting's, else English, else
        the model's first.
        """
        languages = self._model.languages
        wanted = self._settings.default_language
        if wanted in languages:
            return wanted
        return "en" if "en" in languages else languages[0]

    def _options(self, sampling: Sampling, seed: int | None) -> DecodeOptions:
        """Fills what the request leaves open with the model's defaults.

        Raises:
            InputError: a value out of its range.
        """
        defaults = self._model.sampling
        if seed is not None and not 0 <= seed < SEED_LIMIT:
            raise InputError(f"seed must be from 0 to {SEED_LIMIT - 1}.", param="seed")
        given = {
            name: value
            for name in ("temperature", "top_k", "top_p", "repetition_penalty")
            if (value := getattr(sampling, name)) is not None
        }
        base = DecodeOptions(
            temperature=defaults.temperature,
            top_k=defaults.top_k,
            top_p=defaults.top_p,
            repetition_penalty=defaults.repetition_penalty,
            greedy=sampling.greedy,
            seed=new_seed() if seed is None else seed,
        )
        return replace(base, **given)
