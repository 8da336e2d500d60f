"""kill -9 of a real worker in the middle of a request, again and again, with the built-in model.

`WORKER_KILLS=20` makes it twenty; a scripted worker is killed twenty times in
`test_supervisor_crashes.py`, which takes less.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time

import psutil
import pytest

from app.errors import UnavailableError
from app.messages import Speak
from app.settings import Settings
from app.supervisor.client import EngineClient
from app.supervisor.stream import SpeechStream

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

NUM_KILLS = int(os.environ.get("WORKER_KILLS", "8"))
LONG = "The wind rose before the morning came, and the rain fell on the roof. " * 20
SHORT = "The wind rose before the morning came."


def speak(client: EngineClient, request_id: str, text: str) -> SpeechStream:
    ready = client.state.ready
    voice = ready.default_voice if ready else ""
    request = Speak(id=request_id, text=text, voice=voice, language="en", seed=1, live=True)
    return client.speak(request)


async def num_bytes(stream: SpeechStream) -> int:
    return sum([len(audio.pcm) async for audio in stream])


async def kill_mid_request(client: EngineClient, round_number: int) -> None:
    stream = speak(client, f"long-{round_number}", LONG)
    await stream.__anext__()
    pid = client.state.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        await num_bytes(stream)
    assert time.monotonic() - killed_at < 2
    assert caught.value.retry_after_s is not None
    ready = await client.wait_until_ready(120)
    made = await num_bytes(speak(client, f"short-{round_number}", SHORT))
    assert made > ready.sample_rate  # s16: half a second
    assert client.state.pid != pid


def held() -> tuple[int, int]:
    """Returns how many descriptors and children this process has."""
    gc.collect()
    me = psutil.Process()
    return me.num_fds(), len(me.children(recursive=True))


async def run_kills() -> None:
    others = psutil.Process().children(recursive=True)  # a server that other tests share
    client = EngineClient(Settings(restart_backoff_s=0))
    await client.start()
    try:
        await client.wait_until_ready(300, max_crashes=1)
        await kill_mid_request(client, 0)
        before, rss = held(), psutil.Process().memory_info().rss
        for round_number in range(1, NUM_KILLS + 1):
            await kill_mid_request(client, round_number)
        assert held() == before
        assert psutil.Process().memory_info().rss - rss < 16 << 20
        assert client.state.restarts == NUM_KILLS + 1
    finally:
        await client.stop()
    assert psutil.Process().children(recursive=True) == others


def test_kills_of_a_real_worker_leave_nothing_behind() -> None:
    asyncio.run(run_kills())
