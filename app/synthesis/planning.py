"""What a request becomes before its first token is drawn: segments, options, limits.

Pure planning over a loaded model. Knows no scheduler and no device.
"""

from __future__ import annotations

from dataclasses import replace

from app.audio.validate import longest_plausible_s
from app.engine.types import Conditioning, DecodeOptions
from app.errors import InputError
from app.messages import Sampling, Speak
from app.models.loading import LoadedModel
from app.settings import Settings
from app.synthesis.request import SpeechPlan
from app.synthesis.seeds import SEED_LIMIT, new_seed
from app.text.detect import prepare_detection
from app.text.plan import AUTO, plan_segments
from app.text.sentences import sentences_for

_FIRST_ID = "warm-up"
#: What a request may ask for and a model has a default of, as both name it.
_SAMPLING = ("temperature", "top_k", "top_p", "repetition_penalty", "guidance_scale")
#: A segment's longest plausible duration may be this many times the audio the model can make in
#: one go: a calm reader takes half of it. Of the segments of a legal text the small model's 13.8 s
#: were too short for one in 18 at 200 characters, and for none in 69 at 150 and 120.
_PLAUSIBLE_PER_CALM = 2.0


class Planner:
    """Plans requests for one model.

    Args:
        model: what will speak.
        settings: retries, the default language.
        most_rows: segments of one request that may be under way together.
    """

    def __init__(self, model: LoadedModel, settings: Settings, most_rows: int) -> None:
        self._model = model
        self._most_rows = most_rows
        self._settings = settings

    def prepare(self) -> None:
        """Loads what the first request would have to wait for."""
        if self._settings.default_language.strip().lower() == AUTO:
            prepare_detection(self._model.languages)

    def plan(self, message: Speak, conditioning: Conditioning, route: str) -> SpeechPlan:
        """Splits the text and settles what the request leaves open.

        Args:
            message: the request.
            conditioning: of its voice.
            route: told in the verdict.

        Raises:
            InputError: nothing in the text can be spoken, or a value is out of its range.
        """
        model = self._model
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
            max_side_by_side=self._most_rows,
            sample_rate=model.sample_rate,
            tokens_per_s=self._tokens_per_s,
            route=route,
        )

    def first_sentence(self, voice: str) -> Speak:
        """Returns the sentence that a model must say before it counts as ready."""
        language, (text, *_) = sentences_for(self._model.languages)
        return Speak(id=_FIRST_ID, text=text, voice=voice, language=language, seed=0)

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
            name: value for name in _SAMPLING if (value := getattr(sampling, name)) is not None
        }
        base = DecodeOptions(
            **{name: getattr(defaults, name) for name in _SAMPLING},
            greedy=sampling.greedy,
            seed=new_seed() if seed is None else seed,
        )
        return replace(base, **given)
