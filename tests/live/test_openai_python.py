"""The official `openai` Python package speaks with a real server, in every format and way."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator

import httpx
import openai
import pytest
from listening import FORMATS, TEXT, check_length, samples_of
from live_server import LiveServer

pytestmark = [pytest.mark.live, pytest.mark.slow]

SEED = {"seed": 1}
WAYS = ("whole", "chunks", "audio", "sse")

Answers = dict[tuple[str, str], bytes]


async def events_of(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, object]]:
    async for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def speak(client: openai.AsyncOpenAI, fmt: str, way: str, text: str = TEXT) -> bytes:
    speech = client.audio.speech
    order = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": fmt}
    if way == "whole":
        return (await speech.create(**order, extra_body=SEED)).content
    stream_format = openai.omit if way == "chunks" else way
    reply = speech.with_streaming_response.create(
        **order, stream_format=stream_format, extra_body=SEED
    )
    async with reply as stream:
        if way != "sse":
            return b"".join([chunk async for chunk in stream.iter_bytes()])
        events = [event async for event in events_of(stream.iter_lines())]
    *deltas, done = events
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert isinstance(usage, dict)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert min(usage["input_tokens"], usage["output_tokens"]) > 0
    return b"".join(base64.b64decode(str(delta["audio"])) for delta in deltas)


@pytest.fixture(scope="module")
def answers(server: LiveServer) -> Answers:
    """Every format in every way, all at the same time, with one seed."""

    async def ask_all() -> Answers:
        url = f"{server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            asked = [(fmt, way) for fmt in FORMATS for way in WAYS]
            got = await asyncio.gather(*(speak(client, fmt, way) for fmt, way in asked))
        return dict(zip(asked, got, strict=True))

    return asyncio.run(ask_all())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_has_its_length(answers: Answers, fmt: str, way: str) -> None:
    pcm = answers["pcm", "whole"]
    assert len(pcm) > 24_000
    check_length(answers[fmt, way], fmt, pcm)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fmt", ["flac", "wav", "pcm"])
def test_streamed_and_whole_are_the_same_samples(answers: Answers, fmt: str, way: str) -> None:
    assert samples_of(answers[fmt, way], fmt) == answers["pcm", "whole"]


def test_a_text_of_many_segments_is_the_same_in_every_way(server: LiveServer) -> None:
    """More than one segment: the way without `stream_format` leaves segment by segment."""
    text = "The wind rose before the morning came, and nobody in the house was awake to hear. " * 4

    async def ask_all() -> list[bytes]:
        url = f"{server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(speak(client, "pcm", way, text) for way in WAYS))

    first, *others = asyncio.run(ask_all())
    assert len(first) > 5 * 2 * 24_000
    assert all(other == first for other in others)
    order = {"input": text, "seed": 1}
    with httpx.stream("POST", f"{server.url}/v1/audio/speech", json=order, timeout=120) as reply:
        assert "content-length" not in reply.headers
        assert "of=1;" not in reply.headers["x-audio-verdict"]


def test_errors_reach_the_client_as_its_own(server: LiveServer) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        with pytest.raises(openai.NotFoundError) as caught:
            client.audio.speech.create(model="tts-1", voice="nobody", input="Hello.")
        assert caught.value.param == "voice"
        assert caught.value.code == "voice_not_found"
        assert "kathleen" in caught.value.message
        assert caught.value.request_id
        with pytest.raises(openai.BadRequestError) as refused:
            client.audio.speech.create(model="tts-1", voice="alloy", input="?!")
        assert refused.value.code == "empty_text"


def test_models_as_the_client_lists_them(server: LiveServer) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        ids = [model.id for model in client.models.list()]
        assert {"builtin", "tts-1", "tts-1-hd"} <= set(ids)
        assert client.models.retrieve("tts-1").id == "tts-1"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-9")
