"""The shapes of requests and answers on the wire, as OpenAI's SDKs and Open WebUI know them.

Numbers are strict: a string or a bool where a number belongs is refused, not guessed at. Fields
nobody here knows are ignored, for clients send many. Knows nothing of engines or HTTP.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from app.devices.benches import BenchedDevice
from app.messages import MAX_SPEED, MIN_SPEED

AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
StreamFormat = Literal["audio", "sse"]

# The largest integer that every JSON parser reads exactly
_MAX_SEED = 2**53 - 1
_MAX_NAME_CHARS = 256


def _check_unicode(value: str) -> str:
    """Refuses lone surrogates: JSON can write them, but no text of any language holds one."""
    if value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value):
        return value
    raise PydanticCustomError(
        "surrogate", "must be valid Unicode: it holds a lone surrogate, which is no character"
    )


Text = Annotated[str, AfterValidator(_check_unicode)]


class VoiceReference(BaseModel):
    """A voice as OpenAI's SDKs write a custom one."""

    id: str = Field(min_length=1, max_length=_MAX_NAME_CHARS, description="Name of the voice.")


def _name_of_voice(value: Any) -> Any:
    """Takes `"name"` or `{"id": "name"}`; anything else gets one sentence, not two of a union."""
    name = value.get("id") if isinstance(value, dict) else value
    if isinstance(name, str) and 0 < len(name) <= _MAX_NAME_CHARS:
        return name
    if value is None:
        return None
    raise PydanticCustomError(
        "voice", 'must be the name of a voice, or an object such as {"id": "name"}'
    )


class SpeechRequest(BaseModel):
    """Body of `POST /v1/audio/speech`."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    input: Text = Field(description="Text to speak.")
    model: Text | None = Field(
        default=None, description="Model or alias; left out: the default model."
    )
    voice: Annotated[Text | VoiceReference | None, BeforeValidator(_name_of_voice)] = Field(
        default=None, description="Voice or alias, by name or as an object with its id."
    )
    response_format: AudioFormat | None = Field(
        default=None, description="Container; mp3 if left out."
    )
    speed: float | None = Field(
        default=None,
        ge=MIN_SPEED,
        le=MAX_SPEED,
        description="Tempo without change of pitch; 1 if left out.",
    )
    stream_format: StreamFormat | None = Field(
        default=None,
        description="`audio`: bytes as they are made; `sse`: events. Left out: each segment of "
        "the text is checked whole before it leaves.",
    )
    instructions: Any = Field(default=None, description="Accepted and ignored.")
    language: Text | None = Field(
        default=None, description="Language code such as `en`, or `auto`."
    )
    seed: int | None = Field(
        default=None, ge=0, le=_MAX_SEED, description="Same seed and request: same audio."
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="Spread of the draw; 0, or at least 0.01. 0: the likeliest token.",
    )
    top_p: float | None = Field(default=None, gt=0, le=1, description="Mass of tokens drawn from.")
    top_k: int | None = Field(
        default=None, ge=1, le=100_000, description="Number of tokens drawn from."
    )
    repetition_penalty: float | None = Field(
        default=None, ge=1, le=100, description="Above 1: tokens already used are less likely."
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=1,
        le=10,
        description="Above 1: the text counts for more, at twice the work. 1: off.",
    )


class ErrorDetail(BaseModel):
    """What went wrong, in OpenAI's shape."""

    message: str = Field(description="One sentence for a person: what is wrong, and what to do.")
    type: str
    param: str | None = Field(description="The field that is wrong, if one is.")
    code: str = Field(description="A short machine-readable word.")


class ErrorBody(BaseModel):
    """Body of every error."""

    error: ErrorDetail


class Model(BaseModel):
    """A name that `model` may take."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time; 0 where it is not known.")
    owned_by: str
    alias_of: str | None = None
    state: str = Field(description="`ready`, `starting`, …; `unloaded`: the next request loads it.")
    licence: str = Field(description="Empty where its files state none.")
    languages: list[str]


class ModelList(BaseModel):
    """OpenAI's list of models."""

    object: Literal["list"] = "list"
    data: list[Model]


class Alias(BaseModel):
    """A name that stands for a model."""

    id: str
    object: Literal["model.alias"] = "model.alias"
    model: str
    previous: list[str] = Field(
        description="What it meant before, the last one last; `(settings)`: as the settings say."
    )
    changed_at: str | None = Field(description="When it was handed over, ISO 8601; null: never.")


class AliasList(BaseModel):
    """All aliases."""

    object: Literal["list"] = "list"
    data: list[Alias]


class Promotion(BaseModel):
    """Body of `PUT /v1/aliases/{alias}`."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: Text = Field(min_length=1, max_length=_MAX_NAME_CHARS, description="Model or alias.")
    voice: Text | None = Field(
        default=None, description="Who says the sentence; left out: the model's default voice."
    )


class CanarySpeech(BaseModel):
    """The sentence that a model said before it took an alias."""

    text: str
    language: str
    voice: str
    audio_s: float
    took_s: float
    retries: int


class HandedAlias(BaseModel):
    """An alias that was handed over."""

    id: str
    object: Literal["model.alias"] = "model.alias"
    model: str | None = Field(description="Null: the alias was unknown before, and is gone.")
    before: str | None = Field(description="The model it meant until now.")
    load_s: float = Field(description="Seconds until the model could speak.")
    canary: CanarySpeech | None


class AudioModel(BaseModel):
    """A model as Open WebUI lists it."""

    id: str
    name: str


class AudioModelList(BaseModel):
    """Open WebUI's list of speech models."""

    models: list[AudioModel]


class Voice(BaseModel):
    """A voice that `voice` may name."""

    id: str
    name: str
    object: Literal["audio.voice"] = "audio.voice"
    kind: Literal["builtin", "uploaded"]
    languages: list[str] = []
    description: str = ""
    ref_text: str | None = None
    consent: str | None = Field(default=None, description="As it was given with the upload.")
    created_at: int | None = Field(default=None, description="Unix time of the upload.")
    duration_s: float | None = Field(default=None, description="Length of the reference clip.")
    note: str | None = Field(
        default=None, description="With an upload: what the model's makers say of it."
    )


class VoiceList(BaseModel):
    """All voices, in the shape that Open WebUI reads."""

    object: Literal["list"] = "list"
    voices: list[Voice]


class VoiceDeleted(BaseModel):
    """Answer to a deletion."""

    id: str
    object: Literal["audio.voice.deleted"] = "audio.voice.deleted"
    deleted: Literal[True] = True


class Health(BaseModel):
    """The api process is alive."""

    status: Literal["ok"] = "ok"


class Benched(BaseModel):
    """A device that is not used for now."""

    device: str
    reason: str
    review_in_s: float = Field(description="Seconds until a probe may let it return.")

    @classmethod
    def of(cls, bench: BenchedDevice) -> Benched:
        """Returns what the supervisor says of a device, as it goes over the wire."""
        return cls(device=bench.device, reason=bench.reason, review_in_s=bench.review_in_s)


class Readiness(BaseModel):
    """The default model was loaded and warmed, and has spoken a sentence that passed its checks."""

    status: Literal["ready"] = "ready"
    model: str
    is_loaded: bool = Field(description="False: it made room for another, and loads when asked.")
    version: str
    licence: str
    languages: list[str]
    device: str
    device_reason: str
    benched: list[Benched] = Field(description="Devices that are not used for now, and why.")
    load_s: float
    warmup_s: float
    notes: list[str] = Field(description="What its makers say that its users should know.")


class ServiceStatus(BaseModel):
    """What `GET /` tells a program."""

    name: Literal["audio-voice"] = "audio-voice"
    version: str
    status: str = Field(description="Phase of the engine: starting, ready, restarting, …")
    reason: str
    model: str
    device: str | None
    queue_depth: int
    docs: str = "/docs"
