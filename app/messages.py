"""What the api process and an engine worker say to each other, as msgpack over ZeroMQ.

One socket pair a worker: the api process binds a ROUTER, the worker connects a DEALER whose
identity is its generation. Every message is one msgpack frame of a tagged struct. Audio travels as
raw s16le mono at the model's output rate. Knows no torch and no HTTP.
"""

from __future__ import annotations

from typing import Any

import msgspec

#: Sent in `Ready`; a worker of another version is not spoken to.
PROTOCOL_VERSION = 4


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tokens are drawn; None takes the model's default."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    guidance_scale: float | None = None
    greedy: bool = False


#: Tempo that may be asked for, as OpenAI's clients know it.
MIN_SPEED, MAX_SPEED = 0.25, 4.0


# --- api process -> worker ------------------------------------------------------------------


class Speak(msgspec.Struct, frozen=True, tag="speak"):
    """Make speech. Answered by any number of `Audio`, then one `Done` or one `Failed`."""

    id: str
    text: str
    voice: str  # name of a voice of the bundle or of the voices folder, already resolved
    language: str  # an XTTS code, or "auto"
    speed: float = 1.0
    seed: int | None = None
    sampling: Sampling = Sampling()
    #: True: audio leaves chunk by chunk as it is made; False: segment by segment, checked whole.
    live: bool = False


class PrepareVoice(msgspec.Struct, frozen=True, tag="prepare_voice"):
    """Compute and cache a voice's conditioning. Answered by `Done` or `Failed`."""

    id: str
    voice: str


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody waits for this request any more. Not answered; unknown ids are ignored."""

    id: str


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Finish what is in flight within `grace_s` seconds, then exit with code 0."""

    grace_s: float


# --- worker -> api process ------------------------------------------------------------------


class VoiceInfo(msgspec.Struct, frozen=True):
    """A voice that came with the bundle."""

    name: str
    languages: list[str] = []
    description: str = ""


class Route(msgspec.Struct, frozen=True):
    """A choice that was made by itself (`device`, `precision`, `rows`, …), and why."""

    name: str
    choice: str
    reason: str


class DeviceMemory(msgspec.Struct, frozen=True):
    """Memory of the worker's GPU in bytes: taken by the worker now and at most, free, in all."""

    used_bytes: int
    peak_bytes: int
    free_bytes: int
    total_bytes: int


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """A sign of life before `Ready`, with what is being done, in words.

    `device` is where the worker will run, as soon as it knows.
    """

    stage: str
    device: str = ""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded and warmed, and one sentence was synthesised and passed its checks."""

    protocol: int
    model: str
    version: str
    licence: str
    languages: list[str]
    voices: list[VoiceInfo]
    default_voice: str
    sample_rate: int
    device: str
    device_reason: str
    load_s: float
    warmup_s: float
    routes: list[Route] = []


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """A sign of life. `step_age_s` is the age of the engine's last finished step, 0 when idle."""

    step_age_s: float
    rows: int
    waiting: int
    rss_bytes: int
    device_memory: DeviceMemory | None = None
    #: Most bytes held so far while a stage of the work went on, where that was measured.
    stages: dict[str, int] = {}


class Verdict(msgspec.Struct, frozen=True):
    """What the checks of a request's audio saw, all segments together.

    `status` is `ok`, or `retried` where a segment needed another seed. `segments` are those
    checked so far. `route` is the device, and what it was held to where its memory ran out:
    `cuda; rows=4`.
    """

    status: str
    segments: int
    retries: int
    notes: list[str] = []
    route: str = ""


class Audio(msgspec.Struct, frozen=True, tag="audio"):
    """Checked samples of a request, in order: s16le mono."""

    id: str
    segment: int
    num_segments: int
    pcm: bytes
    verdict: Verdict


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The request is complete."""

    id: str
    verdict: Verdict | None = None
    text_tokens: int = 0
    audio_tokens: int = 0
    language: str = ""
    seed: int = 0


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The request ended in an error (`AudioVoiceError.to_dict`)."""

    id: str
    error: dict[str, Any]


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """The worker's last word before it ends by itself: all that it had to say was said."""


ToWorker = Speak | PrepareVoice | Cancel | Stop
FromWorker = Loading | Ready | Heartbeat | Audio | Done | Failed | Bye

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
