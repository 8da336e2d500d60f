"""What only a real connection shows: streams that fail, clients that leave, pauses."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI
from scripted_engine import SAMPLE_RATE, Script, ScriptedEngine

from app.api import pieces
from app.errors import DeviceError, UnavailableError


def post(url: str, **fields: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/audio/speech", json={"input": "Hello there.", **fields})


def collect(reply: httpx.Response, into: bytearray) -> None:
    for chunk in reply.iter_raw():
        into += chunk


def wait_for(condition: Callable[[], object], timeout_s: float = 5) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.005)


@pytest.mark.parametrize("fmt", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
@pytest.mark.parametrize("error", [DeviceError("The device failed."), KeyError("a bug")])
def test_a_failure_on_the_way_breaks_the_transfer(
    engine: ScriptedEngine, served: str, fmt: str, error: Exception
) -> None:
    engine.script = Script(num_segments=3, chunk_s=2, fail_at=2, error=error)
    body = {"input": "Hello.", "response_format": fmt, "stream_format": "audio"}
    received = bytearray()
    with httpx.stream("POST", f"{served}/v1/audio/speech", json=body) as reply:
        assert reply.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            collect(reply, received)
    assert received


def test_a_failure_on_the_way_is_the_last_event(engine: ScriptedEngine, served: str) -> None:
    error = UnavailableError("The worker was lost.")
    engine.script = Script(num_segments=3, chunk_s=2, fail_at=2, error=error)
    reply = post(served, stream_format="sse", response_format="pcm")
    blocks = reply.text.strip().split("\n\n")
    assert len(blocks) == 3
    name, data = blocks[-1].split("\n")
    assert name == "event: speech.audio.error"
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "speech.audio.error",
        "error": {
            "message": "The worker was lost.",
            "type": "service_unavailable",
            "param": None,
            "code": "unavailable",
        },
    }


@pytest.mark.parametrize("stream_format", [None, "audio", "sse"])
@pytest.mark.parametrize("num_chunks", [0, 2])
def test_a_client_that_leaves_is_noticed_at_once(
    engine: ScriptedEngine, served: str, stream_format: str | None, num_chunks: int
) -> None:
    """Before the first audio and between two; the generation is cancelled, the place freed."""
    engine.script = Script(num_segments=4, stall_at=num_chunks, chunk_s=2)
    body = {"input": "Hello.", "stream_format": stream_format, "response_format": "pcm"}

    async def leave() -> float:
        async with httpx.AsyncClient() as client:
            request = client.build_request("POST", f"{served}/v1/audio/speech", json=body)
            sending = asyncio.ensure_future(client.send(request, stream=True))
            if not num_chunks:
                await asyncio.sleep(0.2)
                sending.cancel()
                return time.monotonic()
            reply = await sending
            await reply.aclose()
            return time.monotonic()

    left_s = asyncio.run(leave())
    wait_for(lambda: engine.cancelled_s)
    assert next(iter(engine.cancelled_s.values())) - left_s < 0.5
    wait_for(lambda: "audio_voice_queue_depth 0.0" in httpx.get(f"{served}/metrics").text)
    metrics = httpx.get(f"{served}/metrics").text
    assert 'audio_voice_speeches_total{outcome="cancelled"} 1.0' in metrics


def test_a_complete_request_is_not_cancelled(engine: ScriptedEngine, served: str) -> None:
    for stream_format in (None, "audio", "sse"):
        assert post(served, stream_format=stream_format).status_code == 200
    assert not engine.cancelled_s


def test_the_first_bytes_come_before_the_rest_is_made(engine: ScriptedEngine, served: str) -> None:
    engine.script = Script(num_segments=2, chunk_s=2)
    body = {"input": "Hello.", "stream_format": "audio", "response_format": "wav"}
    with httpx.stream("POST", f"{served}/v1/audio/speech", json=body) as reply:
        chunks = reply.iter_raw()
        assert len(next(chunks)) > 0
        engine.script.pause_s = 0.5
        assert sum(map(len, chunks)) > SAMPLE_RATE


def test_a_silent_stream_gets_comments(
    engine: ScriptedEngine, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces.event_pieces, "__defaults__", (0.05,))
    engine.script = Script(num_segments=2, pause_s=0.3)
    text = post(served, stream_format="sse", response_format="pcm").text
    assert text.count(": keep-alive\n\n") >= 3
    assert text.count("event: speech.audio.delta") == 2


def test_many_at_once_get_their_own_audio(engine: ScriptedEngine, served: str) -> None:
    engine.script = Script(num_segments=3, pause_s=0.01)
    replies: dict[int, bytes] = {}

    def one(seed: int) -> None:
        replies[seed] = post(served, seed=seed, response_format="pcm").content

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == {
        seed: post(served, seed=seed, response_format="pcm").content for seed in range(12)
    }
    assert len(set(replies.values())) == 12


def test_the_lifespan_starts_and_stops_the_engine(app: FastAPI, engine: ScriptedEngine) -> None:
    from app_calls import serve

    with serve(app):
        assert engine.running
    assert not engine.running
