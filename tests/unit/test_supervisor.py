"""The supervisor and real worker processes that run a fake engine: what goes well."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import zmq
from supervised import (
    children,
    collect,
    is_idle,
    make_client,
    num_descriptors,
    read_log,
    running,
    speak,
    until,
)

from app.api.engine import Engine
from app.errors import (
    AudioVoiceError,
    ConflictError,
    InputError,
    RequestCancelledError,
    UnavailableError,
)
from app.messages import Done, Speak, encode
from app.settings import Settings
from app.worker.order import pack_settings, unpack_settings


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


def test_a_request_gets_its_audio_in_order_and_then_done() -> None:
    async def work() -> None:
        async with running() as client:
            engine: Engine = client
            stream = speak(client, "steps=4 kb=2")
            assert stream.done is None
            pcm = await collect(stream)
            assert pcm == b"".join(bytes([i]) * 2048 for i in range(4))
            assert stream.done is not None
            assert stream.done.verdict is not None
            assert stream.done.verdict.status == "ok"
            await engine.prepare_voice("anna")
            with pytest.raises(InputError, match="No such voice"):
                await engine.prepare_voice("nobody")
            assert client.state.num_in_flight == 0

    run(work())


def test_state_tells_what_the_worker_said() -> None:
    async def work() -> None:
        async with running(heartbeat_s=0.05) as client:
            await until(lambda: client.state.heartbeat is not None)
            state = client.state
            assert state.phase == "ready"
            assert state.ready is not None
            assert state.heartbeat is not None
            assert state.ready.device_reason == "heartbeat 0.05"
            assert (state.ready.model, state.ready.voices[0].name) == ("builtin", "anna")
            assert state.heartbeat.rss_bytes > 1 << 20
            assert state.restarts == state.num_crashes == 0
            assert state.load_s is not None
            assert 0 < state.load_s < 30
            assert state.last_error is None
        assert client.state.phase == "stopped"
        assert client.state.ready is None

    run(work())


def test_many_requests_at_once() -> None:
    async def work() -> None:
        async with running() as client:
            streams = [speak(client, f"steps={n} kb=1") for n in range(1, 33)]
            sizes = [len(pcm) for pcm in await asyncio.gather(*map(collect, streams))]
            assert sizes == [n << 10 for n in range(1, 33)]

    run(work())


def test_before_it_is_ready_requests_are_refused_with_a_time_to_come_back() -> None:
    async def work() -> None:
        async with running("create_slowly", wait=False) as client:
            assert client.state.phase == "starting"
            await until(lambda: client.state.reason == "loading slowly")
            with pytest.raises(UnavailableError, match="loading slowly") as caught:
                await collect(speak(client))
            assert caught.value.retry_after_s == client.state.retry_after_s
            assert 1 <= client.state.retry_after_s <= 10
            with pytest.raises(UnavailableError):
                await client.wait_until_ready(0.05)
            started = time.monotonic()
            await client.stop()  # a worker that still loads has nothing to finish
            assert time.monotonic() - started < 2

    run(work())


def test_the_same_id_twice_at_once_is_a_conflict() -> None:
    async def work() -> None:
        async with running() as client:
            first = speak(client, "steps=30 sleep=0.01", "same")
            with pytest.raises(ConflictError):
                await collect(speak(client, "", "same"))
            assert len(await collect(first)) == 30 << 10
            await collect(speak(client, "", "same"))

    run(work())


@pytest.mark.parametrize("way", ["aclose", "task", "timeout"])
def test_a_cancel_stops_the_generation_within_a_step(tmp_path: Path, way: str) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with running(env={"FAKE_LOG": str(log)}) as client:
            stream = speak(client, "steps=1000 sleep=0.1", "gone")
            await stream.__anext__()
            if way == "aclose":
                await stream.aclose()
                await stream.aclose()
            elif way == "timeout":
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(stream.__anext__(), 0.001)
            else:
                reader = asyncio.ensure_future(stream.__anext__())
                await asyncio.sleep(0.01)
                reader.cancel()
            cancelled_at = time.monotonic()
            await until(lambda: any(line.startswith("cancel gone") for line in read_log(log)))
            steps = [line.split() for line in read_log(log) if line.startswith("step gone")]
            late = [at for _, _, at in steps if float(at) > cancelled_at + 0.05]
            assert len(late) <= 1
            assert client.state.num_in_flight == 0
            with pytest.raises(RequestCancelledError):
                await stream.__anext__()
            await until(lambda: is_idle(client))
            await collect(speak(client))

    run(work())


def test_a_slow_reader_costs_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.supervisor.stream.MAX_WAITING_BYTES", 200 << 10)

    async def work() -> None:
        async with running() as client:
            stream = speak(client, "steps=100000 kb=10 sleep=0.001")
            await until(lambda: client.state.num_in_flight == 0)
            with pytest.raises(UnavailableError, match="too slowly"):
                await collect(stream)
            await until(lambda: is_idle(client))

    run(work())


def test_a_request_that_takes_too_long_ends() -> None:
    async def work() -> None:
        async with running(request_timeout_s=0.3) as client:
            with pytest.raises(UnavailableError, match=r"REQUEST_TIMEOUT_S=0\.3"):
                await collect(speak(client, "steps=100000 sleep=0.01"))
            await collect(speak(client))

    run(work())


def test_stop_lets_requests_finish_and_refuses_new_ones() -> None:
    async def work() -> None:
        client = make_client()
        await client.start()
        await client.wait_until_ready(60)
        stream = speak(client, "steps=50 sleep=0.01")
        await stream.__anext__()
        stopping = asyncio.ensure_future(client.stop(30))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="stopping"):
            await collect(speak(client))
        started = time.monotonic()
        assert len(await collect(stream)) == 49 << 10
        await stopping
        assert time.monotonic() - started < 5
        assert client.state.phase == "stopped"
        await client.stop()

    run(work())


@pytest.mark.parametrize("text", ["steps=100000 sleep=0.01", "hang"])
def test_stop_ends_what_overruns_the_grace(text: str) -> None:
    async def work() -> None:
        client = make_client()
        await client.start()
        await client.wait_until_ready(60)
        stream = speak(client, text)
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await client.stop(0.3)
        assert time.monotonic() - started < 3
        with pytest.raises(UnavailableError, match="stopping"):
            await collect(stream)
        assert children() == []

    run(work())


def test_sigterm_to_the_worker_drains_it_and_ctrl_c_is_not_its_business() -> None:
    async def work() -> None:
        async with running() as client:
            stream = speak(client, "steps=50 sleep=0.01")
            await stream.__anext__()
            assert client.state.pid is not None
            os.kill(client.state.pid, signal.SIGINT)
            os.kill(client.state.pid, signal.SIGTERM)
            assert len(await collect(stream)) == 49 << 10
            await until(lambda: client.state.restarts == 1)

    run(work())


def test_the_socket_is_private_and_nothing_is_left(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(socket_folder=tmp_path) as client:
            (folder,) = tmp_path.iterdir()
            assert folder.stat().st_mode & 0o777 == 0o700
            await collect(speak(client))
        assert list(tmp_path.iterdir()) == []
        assert children() == []

    run(work())
    before = num_descriptors()
    run(work())
    assert num_descriptors() == before


def test_a_long_path_falls_back_to_the_loopback(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()

    async def work() -> None:
        async with running(socket_folder=folder) as client:
            assert list(folder.iterdir()) == []
            assert len(await collect(speak(client))) == 3 << 10

    run(work())


def test_the_workers_lines_reach_our_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.worker")

    async def work() -> None:
        async with running() as client:
            with pytest.raises(AudioVoiceError, match="broke the engine's code"):
                await collect(speak(client, "bug"))

    run(work())
    lines = [(record.levelname, record.message) for record in caplog.records]
    assert ("INFO", "a line on stdout") in lines
    assert any(level == "ERROR" and "could not be begun" in line for level, line in lines)
    assert ("ERROR", "KeyError: 'bug'") in lines


def test_a_sentence_is_spoken_before_the_worker_is_ready(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with running(env={"FAKE_LOG": str(log)}) as client:
            assert [line.split()[0] for line in read_log(log)] == ["warm"]
            assert client.state.ready is not None
            assert client.state.ready.warmup_s >= 0

    run(work())


@pytest.mark.parametrize(
    "wrong", [{"text": "\ud800"}, {"seed": 1 << 70}, {"language": None}, {"speed": "fast"}]
)
def test_what_cannot_be_sent_or_read_fails_by_itself(wrong: dict[str, Any]) -> None:
    async def work() -> None:
        async with running() as client:
            other = speak(client, "steps=20 sleep=0.01")
            fields = {"id": "wrong", "text": "", "voice": "anna", "language": "en", **wrong}
            with pytest.raises(InputError):
                await collect(client.speak(Speak(**fields)))
            assert len(await collect(other)) == 20 << 10
            assert client.state.num_in_flight == client.state.restarts == 0

    run(work())


def test_strangers_on_the_socket_are_not_listened_to(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(socket_folder=tmp_path) as client:
            stream = speak(client, "steps=20 sleep=0.02", "mine")
            with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
                (folder,) = tmp_path.iterdir()
                stranger.connect(f"ipc://{folder}/engine")
                stranger.send(encode(Done(id="mine")))
                stranger.send(b"nonsense")
                assert len(await collect(stream)) == 20 << 10

    run(work())


def test_the_worker_gets_the_settings_but_no_secrets() -> None:
    settings = Settings(api_keys=["secret"], default_voice="anna", voice_aliases={"a": "b"})
    packed = pack_settings(settings)
    assert "secret" not in packed
    assert unpack_settings(packed) == settings.model_copy(update={"api_keys": []})


def test_temporary_folder_is_used_when_none_is_named() -> None:
    async def work() -> None:
        base = Path(tempfile.gettempdir())
        before = set(base.glob("audio-voice-*"))
        async with running():
            assert len(set(base.glob("audio-voice-*")) - before) == 1
        assert set(base.glob("audio-voice-*")) <= before

    run(work())
