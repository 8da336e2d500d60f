"""Start, keys, the bounded queue and clients that leave, with a real server and worker."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from listening import TEXT
from live_server import LiveServer, run_server

pytestmark = [pytest.mark.live, pytest.mark.slow]

KEY = {"Authorization": "Bearer first"}
#: Takes far longer to speak than any of these tests waits.
LONG_TEXT = "The wind rose before the morning came, and nobody in the house was awake. " * 60


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with keys, two places, and a worker that often says how it is."""
    folder = tmp_path_factory.mktemp("strict")
    settings = {"API_KEYS": "first,second", "MAX_QUEUE": 2, "HEARTBEAT_S": 0.1}
    with run_server(folder, **settings) as live:
        live.wait_until_ready()
        yield live


def until(condition: Callable[[], bool], timeout_s: float) -> float:
    """Waits for the condition and returns how long it took."""
    start_s = time.monotonic()
    while not condition():
        assert time.monotonic() - start_s < timeout_s, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - start_s


def gauge(server: LiveServer, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics", headers=KEY).text
    lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[1]) if lines else 0.0


def is_idle(server: LiveServer) -> bool:
    names = ("queue_depth", "worker_rows", "worker_waiting")
    return all(gauge(server, f"audio_voice_{name}") == 0 for name in names)


def test_health_answers_within_two_seconds_of_the_start(strict: LiveServer) -> None:
    assert strict.start_cpu_s < 2.0


def test_keys(strict: LiveServer) -> None:
    base = f"{strict.url}/v1"
    with openai.OpenAI(base_url=base, api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
        assert client.models.list().data
    with openai.OpenAI(base_url=base, api_key="second", max_retries=0) as client:
        assert client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT).content
    assert httpx.get(f"{base}/audio/voices").status_code == 200
    assert httpx.get(f"{base}/audio/models").status_code == 200
    assert httpx.get(f"{strict.url}/metrics").status_code == 401


@pytest.mark.parametrize("stream_format", [None, "audio", "sse"])
def test_a_client_that_leaves_frees_the_engine(
    strict: LiveServer, stream_format: str | None
) -> None:
    """Nobody waits for the audio any more, so nobody makes it: minutes of it are left out."""
    body = {"input": LONG_TEXT, "stream_format": stream_format}

    async def leave_in_the_middle() -> None:
        async with httpx.AsyncClient(headers=KEY, timeout=60) as client:
            url = f"{strict.url}/v1/audio/speech"
            request = client.build_request("POST", url, json=body)
            sending = asyncio.ensure_future(client.send(request, stream=True))
            await asyncio.to_thread(
                until, lambda: gauge(strict, "audio_voice_worker_rows") > 0, 30.0
            )
            if stream_format is not None:
                await (await sending).aclose()
            sending.cancel()
            await asyncio.wait({sending})

    until(lambda: is_idle(strict), 30.0)
    asyncio.run(leave_in_the_middle())
    assert until(lambda: is_idle(strict), 10.0) < 3.0


def test_the_third_of_two_is_told_when_to_come_back(strict: LiveServer) -> None:
    until(lambda: is_idle(strict), 30.0)
    url = f"{strict.url}/v1/audio/speech"

    async def fill() -> httpx.Response:
        async with httpx.AsyncClient(headers=KEY, timeout=60) as client:
            body = {"input": LONG_TEXT}
            waiting = [asyncio.ensure_future(client.post(url, json=body)) for _ in range(2)]
            await asyncio.to_thread(
                until, lambda: gauge(strict, "audio_voice_queue_depth") == 2, 10.0
            )
            refused = await client.post(url, json={"input": TEXT})
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            return refused

    refused = asyncio.run(fill())
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "queue_full"
    until(lambda: is_idle(strict), 10.0)
    assert httpx.post(url, json={"input": TEXT}, headers=KEY, timeout=60).status_code == 200


def test_the_worker_leaves_with_the_server(tmp_path: Path) -> None:
    """SIGTERM while the model loads: the server ends at once and cleanly (see `run_server`)."""
    with run_server(tmp_path) as live:
        until(lambda: httpx.get(f"{live.url}/").json()["status"] == "starting", 5.0)


@pytest.mark.parametrize("stream_format", [None, "audio", "sse"])
def test_a_request_in_flight_is_finished_after_sigterm(
    tmp_path: Path, stream_format: str | None
) -> None:
    """What is begun is heard to its end, and nothing is left behind."""
    body = {"input": f"{TEXT} " * 6, "seed": 1, "response_format": "pcm"}
    with run_server(tmp_path, HEARTBEAT_S=0.1) as live:
        live.wait_until_ready()
        url = f"{live.url}/v1/audio/speech"
        undisturbed = httpx.post(url, json=body, timeout=60).content
        family = psutil.Process(live.process.pid).children(recursive=True)
        with httpx.stream(
            "POST", url, json={**body, "stream_format": stream_format}, timeout=60
        ) as reply:
            pieces = reply.iter_bytes()
            first = next(pieces)
            live.process.send_signal(signal.SIGTERM)
            rest = b"".join(pieces)
        assert live.process.wait(30) == 0
        assert not [child for child in family if child.is_running()]
    if stream_format == "sse":
        assert b"event: speech.audio.done" in rest
    else:
        assert first + rest == undisturbed


def test_a_killed_worker_costs_its_request_and_no_restart_of_the_server(tmp_path: Path) -> None:
    with run_server(tmp_path, RESTART_BACKOFF_S=0) as live:
        live.wait_until_ready()
        url = f"{live.url}/v1/audio/speech"
        with ThreadPoolExecutor(1) as pool:
            caught = pool.submit(httpx.post, url, json={"input": LONG_TEXT}, timeout=60)
            until(lambda: live.metric("audio_voice_queue_depth") == 1, 10.0)
            for child in psutil.Process(live.process.pid).children():
                child.kill()
            reply = caught.result()
        assert reply.status_code == 503
        assert reply.json()["error"]["code"] == "worker_lost"
        assert int(reply.headers["retry-after"]) >= 1
        assert "x-should-retry" not in reply.headers
        live.wait_until_ready()
        assert httpx.post(url, json={"input": TEXT}, timeout=60).status_code == 200
