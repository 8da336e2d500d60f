"""`POST /v1/audio/speech` when all goes well: formats, headers, what the worker is asked."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable

import av
import httpx
import numpy as np
import pytest
from scripted_engine import SAMPLE_RATE, Script, ScriptedEngine, tone

from app.api.schemas import AudioFormat
from app.audio.formats import FORMATS
from app.messages import Verdict

Speak = Callable[..., httpx.Response]

#: samples that a decoder puts before the first one of a stream (see app/audio/encode.py)
MAX_DELAY = {"mp3": 2400, "aac": 2400, "opus": 960, "wav": 0, "flac": 0}


def num_decoded(data: bytes, fmt: str) -> int:
    if fmt == "pcm":
        return len(data) // 2
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    return round(sum(frame.samples for frame in frames) * SAMPLE_RATE / frames[0].sample_rate)


def events_of(text: str) -> list[dict[str, object]]:
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    events = []
    for block in blocks:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def test_the_formats_on_the_wire_are_those_that_can_be_made() -> None:
    assert set(AudioFormat.__args__) == set(FORMATS)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("stream_format", [None, "audio", "sse"])
@pytest.mark.parametrize("num_segments", [1, 3])
def test_every_format_decodes_to_its_length(
    engine: ScriptedEngine, speak: Speak, fmt: str, stream_format: str | None, num_segments: int
) -> None:
    engine.script = Script(num_segments=num_segments, chunk_s=0.5)
    reply = speak(response_format=fmt, stream_format=stream_format, seed=5)
    assert reply.status_code == 200
    data = reply.content
    if stream_format == "sse":
        assert reply.headers["content-type"] == "text/event-stream"
        events = events_of(reply.text)
        assert [event["type"] for event in events[:-1]] == ["speech.audio.delta"] * (
            len(events) - 1
        )
        assert events[-1] == {
            "type": "speech.audio.done",
            "usage": {"input_tokens": 7, "output_tokens": 21, "total_tokens": 28},
        }
        data = b"".join(base64.b64decode(str(event["audio"])) for event in events[:-1])
    else:
        assert reply.headers["content-type"] == FORMATS[fmt].content_type
    expected = num_segments * SAMPLE_RATE // 2
    assert 0 <= num_decoded(data, fmt) - expected <= MAX_DELAY.get(fmt, 0)


def test_the_samples_are_the_engines_own(engine: ScriptedEngine, speak: Speak) -> None:
    engine.script = Script(num_segments=3, chunk_s=0.5)
    pcm = speak(response_format="pcm", seed=9).content
    assert pcm == tone(9, SAMPLE_RATE // 2) * 3
    with av.open(io.BytesIO(speak(response_format="flac", seed=9).content)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    assert np.concatenate(frames, axis=1).astype("<i2").tobytes() == pcm


def test_what_the_worker_is_asked(engine: ScriptedEngine, speak: Speak) -> None:
    reply = speak(
        model="tts-1",
        voice={"id": "bert"},
        speed=1.5,
        language="pt-BR",
        seed=3,
        temperature=0.5,
        top_p=0.9,
        top_k=20,
        repetition_penalty=3,
        guidance_scale=1.5,
        instructions={"tone": ["any", "thing"]},
        unknown_field=1,
    )
    assert reply.status_code == 200
    asked = engine.spoken[0]
    assert (asked.text, asked.voice, asked.language, asked.speed, asked.seed, asked.live) == (
        *("Hello there.", "bert", "pt", 1.5, 3),
        False,
    )
    assert asked.sampling.temperature == 0.5
    assert asked.sampling.top_p == 0.9
    assert asked.sampling.top_k == 20
    assert asked.sampling.repetition_penalty == 3
    assert asked.sampling.guidance_scale == 1.5
    assert not asked.sampling.greedy


def test_temperature_zero_takes_the_likeliest(engine: ScriptedEngine, speak: Speak) -> None:
    assert speak(temperature=0).status_code == 200
    assert engine.spoken[0].sampling.greedy
    assert engine.spoken[0].sampling.temperature is None


@pytest.mark.parametrize("voice", [None, "default", "alloy", "anna", {"id": "nova"}])
def test_names_and_aliases_of_the_default_voice(
    engine: ScriptedEngine, speak: Speak, voice: object
) -> None:
    assert speak(voice=voice).status_code == 200
    assert engine.spoken[0].voice == "anna"


@pytest.mark.parametrize("model", [None, "default", "builtin", "tts-1-hd"])
def test_names_of_the_model(speak: Speak, model: str | None) -> None:
    assert speak(model=model).status_code == 200


def test_null_means_left_out(engine: ScriptedEngine, speak: Speak) -> None:
    reply = speak(
        **dict.fromkeys(
            ("model", "voice", "response_format", "speed", "stream_format", "seed", "language")
        )
    )
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "audio/mpeg"
    assert engine.spoken[0].speed == 1.0


def test_live_only_when_a_stream_is_asked_for(engine: ScriptedEngine, speak: Speak) -> None:
    for stream_format in (None, "audio", "sse"):
        speak(stream_format=stream_format)
    assert [asked.live for asked in engine.spoken] == [False, True, True]


def test_headers_of_a_whole_answer(engine: ScriptedEngine, speak: Speak) -> None:
    engine.script = Script(
        chunks_per_segment=2, verdict=Verdict(status="retried", segments=1, retries=1)
    )
    reply = speak(seed=12)
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.headers["x-audio-verdict"] == "retried; segments=1; of=1; retries=1"
    assert reply.headers["x-audio-seed"] == "12"
    assert reply.headers["x-audio-language"] == "en"
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert len(reply.headers["x-request-id"]) == 32


def test_headers_of_a_stream_claim_no_more_than_is_known(
    engine: ScriptedEngine, speak: Speak
) -> None:
    engine.script = Script(num_segments=3)
    reply = speak()
    assert "content-length" not in reply.headers
    assert reply.headers["x-audio-verdict"] == "ok; segments=1; of=3; retries=0"
    assert "x-audio-language" not in reply.headers
    assert speak(language="pt").headers["x-audio-language"] == "pt"


def test_a_seed_is_drawn_told_and_usable(engine: ScriptedEngine, speak: Speak) -> None:
    first, second = speak(response_format="pcm"), speak(response_format="pcm")
    assert first.headers["x-audio-seed"] != second.headers["x-audio-seed"]
    again = speak(response_format="pcm", seed=int(first.headers["x-audio-seed"]))
    assert again.content == first.content
    assert len({asked.id for asked in engine.spoken}) == 3


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("my-id_1.2:3", True), ("x" * 129, False), ("a b", False), ("a\tb", False), ("", False)],
)
def test_a_sane_request_id_is_kept(call: Speak, sent: str, kept: bool) -> None:
    reply = call("GET", "/health", headers={"X-Request-Id": sent})
    assert (reply.headers["x-request-id"] == sent) is kept


def test_any_content_type_will_do(call: Speak) -> None:
    reply = call(
        "POST",
        "/v1/audio/speech",
        content=b'{"input": "Hello."}',
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert reply.status_code == 200
