"""The supervisor and real worker processes that run a fake engine: what goes wrong."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
from supervised import (
    ROOT,
    children,
    collect,
    make_client,
    num_descriptors,
    running,
    speak,
    until,
    worker_env,
)

from app.errors import AudioVoiceError, ModelFileError, UnavailableError
from app.supervisor.client import EngineClient
from app.supervisor.state import Backoff

LONG = "steps=100000 sleep=0.01"


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


async def expect_loss(client: EngineClient, text: str) -> UnavailableError:
    """Speaks until the worker is lost; the request must end in a 503 with a time to come back."""
    with pytest.raises(UnavailableError) as caught:
        await collect(speak(client, text))
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s >= 1
    return caught.value


async def kill_mid_request(client: EngineClient) -> None:
    """SIGKILL while two requests are under way: both end at once; the next one works."""
    streams = [speak(client, LONG), speak(client, LONG)]
    await streams[0].__anext__()
    assert client.state.pid is not None
    os.kill(client.state.pid, signal.SIGKILL)
    killed_at = time.monotonic()
    ends = await asyncio.gather(*map(collect, streams), return_exceptions=True)
    assert time.monotonic() - killed_at < 2
    assert [type(end) for end in ends] == [UnavailableError, UnavailableError]
    assert "SIGKILL" in str(ends[0])
    with pytest.raises(UnavailableError):
        await collect(speak(client))
    await client.wait_until_ready(30)
    assert len(await collect(speak(client))) == 3 << 10


@pytest.mark.slow
def test_twenty_kills_in_a_row_leave_nothing_behind() -> None:
    async def work() -> None:
        async with running(restart_backoff_s=0) as client:
            for _ in range(3):
                await kill_mid_request(client)
            gc.collect()
            before = (num_descriptors(), len(children()), len(asyncio.all_tasks()))
            rss = psutil.Process().memory_info().rss
            for _ in range(20):
                await kill_mid_request(client)
            gc.collect()
            assert (num_descriptors(), len(children()), len(asyncio.all_tasks())) == before
            assert psutil.Process().memory_info().rss - rss < 8 << 20
            assert client.state.restarts == client.state.num_crashes == 23
            assert client.state.num_kills == 0
        assert children() == []

    run(work())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("segv", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("poison", "started again"),
        ("device", "started again"),
    ],
)
def test_each_way_to_die_is_one_failed_request(text: str, said: str) -> None:
    async def work() -> None:
        async with running() as client:
            error = await expect_loss(client, text)
            assert said in error.message
            await until(lambda: client.state.restarts == 1)
            await client.wait_until_ready(30)
            assert len(await collect(speak(client))) == 3 << 10
            if text == "poison":
                assert "illegal memory access" in str(client.state.last_error)

    run(work())


def test_a_frozen_worker_is_killed_and_replaced() -> None:
    async def work() -> None:
        async with running(heartbeat_timeout_s=0.6) as client:
            pid = client.state.pid
            error = await expect_loss(client, "freeze")
            assert "no sign of life" in error.message
            await client.wait_until_ready(30)
            assert client.state.num_kills == 1
            assert client.state.pid != pid
            await collect(speak(client))

    run(work())


def test_a_step_that_hangs_is_ended_where_a_limit_is_set() -> None:
    async def work() -> None:
        async with running(stall_timeout_s=0.5) as client:
            error = await expect_loss(client, "hang")
            assert "stuck in one step" in error.message
            await client.wait_until_ready(30)
            await collect(speak(client))

    run(work())


def test_a_hanging_step_hides_neither_heartbeats_nor_cancels_from_us() -> None:
    async def work() -> None:
        async with running(heartbeat_timeout_s=1) as client:
            stream = speak(client, "hang")
            await asyncio.sleep(2)
            state = client.state
            assert state.phase == "ready"
            assert state.heartbeat is not None
            assert state.heartbeat.step_age_s > 1
            await stream.aclose()

    run(work())


def test_our_own_pause_is_not_the_workers_fault() -> None:
    async def work() -> None:
        async with running(heartbeat_timeout_s=0.5) as client:
            pid = client.state.pid
            time.sleep(2.5)
            await asyncio.sleep(0.5)
            assert client.state.pid == pid
            assert client.state.restarts == 0

    run(work())


def test_what_the_worker_started_dies_with_it() -> None:
    def leftovers() -> list[psutil.Process]:
        return [
            p for p in psutil.process_iter(["cmdline"]) if "leftover" in (p.info["cmdline"] or ())
        ]

    async def work() -> None:
        async with running() as client:
            stream = speak(client, "grandchild steps=1000 sleep=0.02")
            await stream.__anext__()
            assert len(leftovers()) >= 1
            assert client.state.pid is not None
            os.kill(client.state.pid, signal.SIGKILL)
            with pytest.raises(UnavailableError):
                await collect(stream)
            await until(lambda: leftovers() == [], 5)

    run(work())


@pytest.mark.parametrize(
    ("factory", "kind", "said"),
    [
        ("miss_a_file", ModelFileError, "model.pth is missing"),
        ("no_such_module:create", AudioVoiceError, "no_such_module"),
    ],
)
def test_what_a_restart_cannot_cure_is_told_and_not_tried_again(
    factory: str, kind: type[AudioVoiceError], said: str
) -> None:
    async def work() -> None:
        async with running(factory, wait=False) as client:
            with pytest.raises(kind, match=said):
                await client.wait_until_ready(30)
            assert client.state.phase == "failed"
            assert said in client.state.reason
            with pytest.raises(UnavailableError, match=said) as caught:
                await collect(speak(client))
            assert caught.value.retry_after_s is None
            await asyncio.sleep(0.3)
            assert client.state.restarts == 0
            assert children() == []
        assert client.state.phase == "failed"

    run(work())


def test_a_load_that_fails_is_tried_again_with_growing_pauses() -> None:
    async def work() -> None:
        async with running("fail_to_load", wait=False, restart_backoff_s=0.3) as client:
            with pytest.raises(AudioVoiceError, match="out of luck"):
                await client.wait_until_ready(30, max_crashes=1)
            assert client.state.phase == "restarting"
            first = await until(lambda: client.state.num_crashes == 2)
            second = await until(lambda: client.state.num_crashes == 3)
            assert second > first + 0.2
            started = time.monotonic()
            await client.stop()
            assert time.monotonic() - started < 1

    run(work())


def test_a_crash_while_loading_is_got_over(tmp_path: Path) -> None:
    async def work() -> None:
        async with running("crash_twice", env={"FAKE_LOG": str(tmp_path / "log")}) as client:
            assert client.state.restarts == 2
            await collect(speak(client))

    run(work())


def test_a_load_that_takes_too_long_is_ended() -> None:
    async def work() -> None:
        async with running("create_slowly", wait=False, worker_start_timeout_s=0.8) as client:
            with pytest.raises(UnavailableError, match="WORKER_START_TIMEOUT_S"):
                await client.wait_until_ready(30, max_crashes=1)
            assert client.state.num_kills == 1

    run(work())


def test_a_worker_of_another_version_is_not_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.supervisor.watch.PROTOCOL_VERSION", 999)

    async def work() -> None:
        async with running(wait=False) as client:
            with pytest.raises(AudioVoiceError, match="another version"):
                await client.wait_until_ready(30)
            assert client.state.phase == "failed"

    run(work())


def test_the_worker_dies_with_its_api_process(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from supervised import make_client, speak
async def main():
    client = make_client()
    await client.start()
    await client.wait_until_ready(60)
    stream = speak(client, {LONG!r})
    await stream.__anext__()
    print(client.state.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    env = {**os.environ, **worker_env(), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=env, cwd=ROOT, stdout=subprocess.PIPE
    ) as api:
        assert api.stdout is not None
        worker = psutil.Process(int(api.stdout.readline()))
        api.kill()
        api.wait()
    _gone, alive = psutil.wait_procs([worker], timeout=3)
    assert alive == [] or alive[0].status() == psutil.STATUS_ZOMBIE


def test_pauses_double_to_half_a_minute_and_a_good_minute_clears_them() -> None:
    backoff = Backoff(0.5)
    pauses = [backoff.next_pause_s(ready_for_s=5) for _ in range(9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.next_pause_s(ready_for_s=61) == 0.5
    assert backoff.next_pause_s(ready_for_s=0) == 1


def test_a_stop_that_is_cancelled_still_leaves_nothing() -> None:
    async def work() -> None:
        client = make_client()
        await client.start()
        await client.wait_until_ready(60)
        speak(client, LONG)
        stopping = asyncio.ensure_future(client.stop(30))
        await asyncio.sleep(0.1)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert children() == []
        assert client.state.phase == "stopped"

    run(work())
