"""What the supervisor makes of workers that fail: benches, other devices, words while one waits.

Real worker processes run a fake engine that calls its device `cuda`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

import pytest
from supervised import children, collect, running, speak, until

from app.devices.benches import REVIEW_AFTER_S
from app.devices.report import DtypeResult, ProbeReport
from app.errors import UnavailableError
from app.settings import Settings
from app.supervisor.client import EngineClient
from app.supervisor.recovery import Recovery

ON_CUDA = {"FAKE_DEVICE": "cuda"}
RIGHT = (DtypeResult("float32", True, 1e-6, "right"),)
LIVE = "steps=100000 sleep=0.01"


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


async def lose(client: EngineClient, text: str) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught:
        await collect(speak(client, text))
    await client.wait_until_ready(60)
    return caught.value


def device_of(client: EngineClient) -> str:
    assert client.state.ready is not None
    return client.state.ready.device


def reprobed(client: EngineClient) -> str:
    assert client.state.ready is not None
    return client.state.ready.routes[0].choice


class Bench:
    """A recovery whose clock and probes a test holds in its hands."""

    def __init__(self) -> None:
        self.now = 0.0
        self.probed: list[str] = []
        self.answer = ProbeReport("ok", "cuda", "cuda", "all right", dtypes=RIGHT)
        self.recovery = Recovery(Settings(), lambda: self.now, self.probe)

    def probe(self, device: str) -> ProbeReport:
        self.probed.append(device)
        return self.answer


def test_three_losses_bench_the_device_and_a_probe_brings_it_back() -> None:
    bench = Bench()

    async def work() -> None:
        async with running(env=ON_CUDA, recovery=bench.recovery) as client:
            for _ in range(3):
                assert device_of(client) == "cuda"
                assert "SIGSEGV" in (await lose(client, "segv")).message
            assert device_of(client) == "cpu"
            (benched,) = client.state.benched
            assert benched.device == "cuda"
            assert "3 workers lost in 10 minutes" in benched.reason
            assert client.state.ready is not None
            assert "cuda is benched" in client.state.ready.device_reason
            assert len(await collect(speak(client))) == 3 << 10

            bench.answer = ProbeReport("gpu_dead", "cuda", "cuda", "it hangs")
            bench.now += REVIEW_AFTER_S
            await until(lambda: bench.probed == ["cuda"])
            await until(lambda: client.state.benched[0].reason == "gpu_dead: it hangs")
            assert device_of(client) == "cpu"

            stream = speak(client, LIVE)
            await stream.__anext__()
            bench.answer = ProbeReport("ok", "cuda", "cuda", "all right", dtypes=RIGHT)
            bench.now += 2 * REVIEW_AFTER_S
            await until(lambda: client.state.benched == ())
            await asyncio.sleep(1.5)  # busy: it stays where it is
            assert device_of(client) == "cpu"
            await stream.aclose()
            await asyncio.sleep(1.5)
            bench.now += 60
            await until(lambda: client.state.phase == "restarting")
            await client.wait_until_ready(60)
            assert device_of(client) == "cuda"
            assert client.state.num_crashes == 3  # a move is no crash
        assert children() == []

    run(work())


def test_memory_that_does_not_suffice_moves_the_requests_to_the_cpu() -> None:
    async def work() -> None:
        async with running(env=ON_CUDA) as client:
            heard = speak(client, LIVE)
            await heard.__anext__()
            unheard = speak(client, "full steps=2")
            assert len(await collect(unheard)) == 2 << 10
            with pytest.raises(UnavailableError) as caught:
                await collect(heard)
            assert caught.value.retry_after_s is not None
            assert device_of(client) == "cpu"
            assert client.state.benched[0].reason == "No memory is left"
            assert client.state.num_in_flight == 0

    run(work())


def test_a_request_moves_only_once_and_not_on_the_cpu() -> None:
    async def work() -> None:
        async with running() as client:  # on the CPU: `full` speaks, `device` ends the worker
            assert len(await collect(speak(client, "full"))) == 3 << 10
            await lose(client, "device")
            assert client.state.benched == ()
        async with running(env=ON_CUDA) as client:
            error = await lose(client, "full segv")
            assert "SIGSEGV" in error.message
            assert device_of(client) == "cpu"

    run(work())


def test_a_request_that_moves_keeps_its_deadline() -> None:
    async def work() -> None:
        async with running(env=ON_CUDA, request_timeout_s=0.2, restart_backoff_s=2) as client:
            with pytest.raises(UnavailableError, match="REQUEST_TIMEOUT_S"):
                await collect(speak(client, "full"))
            assert client.state.num_in_flight == 0

    run(work())


@pytest.mark.parametrize(
    ("text", "again"), [("segv", "True"), ("hang", "True"), ("poison", "False")]
)
def test_an_end_that_smells_of_the_stack_asks_for_a_new_probe_once(text: str, again: str) -> None:
    async def work() -> None:
        async with running(stall_timeout_s=0.5) as client:
            assert reprobed(client) == "False"
            await lose(client, text)
            assert reprobed(client) == again
            await lose(client, text)
            assert reprobed(client) == "False"  # tried a moment ago

    run(work())


def test_a_kill_from_outside_asks_for_none() -> None:
    async def work() -> None:
        async with running() as client:
            stream = speak(client, LIVE)
            await stream.__anext__()
            assert client.state.pid is not None
            os.kill(client.state.pid, signal.SIGKILL)
            with pytest.raises(UnavailableError):
                await collect(stream)
            await client.wait_until_ready(60)
            assert reprobed(client) == "False"

    run(work())


def test_a_long_start_and_a_long_step_are_told_every_few_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("app.supervisor.watch._TELL_EVERY_S", 1)

    async def work() -> None:
        async with running("create_slowly", wait=False, env={"FAKE_LOAD_S": "4"}) as client:
            await until(lambda: "loading slowly, for 1 s so far" in client.state.reason)
            await until(lambda: "loading slowly, for 2 s so far" in client.state.reason)
            with pytest.raises(UnavailableError, match="loading slowly"):
                await collect(speak(client))
            await client.wait_until_ready(30)
            assert client.state.reason == "builtin on cpu"
            stream = speak(client, "hang")
            await until(lambda: "one step has taken 1 s so far" in client.state.reason)
            await until(lambda: "one step has taken 2 s so far" in client.state.reason)
            assert "STALL_TIMEOUT_S=120" in client.state.reason
            await stream.aclose()

    run(work())
    told = [r.getMessage() for r in caplog.records if r.name == "app.supervisor.watch"]
    assert sum("loading slowly, for" in line for line in told) >= 2
    assert sum("one step has taken" in line for line in told) >= 2
