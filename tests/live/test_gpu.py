"""The service's workers on a real NVIDIA card, with the built-in voice; skipped without one.

What a card does when its memory ends, when a process dies in a kernel, and whether all of its
memory comes back.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from gpu_card import assert_given_back, free_memory
from live_server import ROOT

from app.audio.pcm import BYTES_PER_SAMPLE
from app.devices import hardware
from app.errors import UnavailableError
from app.messages import Done, Ready, Speak
from app.models.bundles import builtin_folder
from app.models.registry import ModelRegistry
from app.settings import Settings
from app.supervisor.client import EngineClient
from app.supervisor.pool import EnginePool
from app.supervisor.stream import SpeechStream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not hardware.nvidia_gpus(), reason="no NVIDIA GPU in this machine"),
]

SENTENCE = "The wind rose before the morning came."
READY_S = 300


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 800))


def gpu_settings(folder: Path, **fields: Any) -> Settings:
    own = {name: folder / name.removesuffix("_dir") for name in ("models_dir", "voices_dir")}
    return Settings(
        _env_file=None,
        **{**own, "cache_dir": folder / "cache", "device": "cuda", "heartbeat_s": 0.2, **fields},
    )


@asynccontextmanager
async def client_of(settings: Settings, **options: Any) -> AsyncIterator[EngineClient]:
    client = EngineClient(settings, **options)
    await client.start()
    try:
        await client.wait_until_ready(READY_S)
        yield client
    finally:
        await client.stop(0)


def speak(client: EngineClient, text: str) -> SpeechStream:
    ready = client.state.ready
    voice = ready.default_voice if ready else ""
    request = Speak(id=uuid.uuid4().hex, text=text, voice=voice, language="en", seed=1)
    return client.speak(request)


async def heard(stream: SpeechStream, ready: Ready) -> tuple[float, Done]:
    """Returns the seconds of audio and the worker's last word."""
    pcm = b"".join([audio.pcm async for audio in stream])
    assert stream.done is not None
    return len(pcm) / BYTES_PER_SAMPLE / ready.sample_rate, stream.done


def test_a_worker_killed_in_mid_kernel_gives_the_memory_back_and_the_next_one_speaks(
    tmp_path: Path,
) -> None:
    before = free_memory()

    async def work() -> None:
        settings = gpu_settings(tmp_path, restart_backoff_s=0)
        async with client_of(settings) as client:
            for _ in range(3):
                stream = speak(client, f"{SENTENCE} " * 200)
                await stream.__anext__()  # it decodes: kernels are under way all the time
                assert client.state.pid is not None
                os.kill(client.state.pid, signal.SIGKILL)
                with pytest.raises(UnavailableError, match="SIGKILL"):
                    await heard(stream, await client.wait_until_ready(READY_S))
                ready = await client.wait_until_ready(READY_S)
                assert ready.device.startswith("cuda")  # a kill from outside benches nothing
                audio_s, _ = await heard(speak(client, SENTENCE), ready)
                assert audio_s > 0.5
            assert client.state.benched == ()

    run(work())
    assert_given_back(before)


def little_memory(extra_mb: int) -> dict[str, Any]:
    folders = (str(ROOT), str(ROOT / "tests" / "faults"))
    return {
        "synthesizer": "gpu_limits:open_with_little_memory",
        "worker_env": {"PYTHONPATH": os.pathsep.join(folders), "GPU_EXTRA_MB": str(extra_mb)},
    }


def test_a_real_lack_of_memory_costs_rows_and_no_request(tmp_path: Path) -> None:
    """512 rows of the built-in voice want gigabytes of caches; 400 MB more than its weights
    hold some of them.
    """
    before = free_memory()
    text = " ".join(f"{number} ships came back to the harbour." for number in range(2, 60))

    async def work() -> None:
        settings = gpu_settings(tmp_path, max_batch_rows=512)
        async with client_of(settings, **little_memory(400)) as client:
            ready = await client.wait_until_ready(READY_S)
            audio_s, done = await heard(speak(client, text), ready)
            assert audio_s > 20
            assert done.verdict is not None
            assert done.verdict.route.startswith("cuda; rows=") or done.verdict.route == "cuda"
            assert client.state.num_crashes == 0
            assert client.state.benched == ()

    run(work())
    assert_given_back(before)


def test_a_card_without_room_for_one_row_hands_over_to_the_cpu(tmp_path: Path) -> None:
    before = free_memory()

    async def work() -> None:
        async with client_of(gpu_settings(tmp_path), **little_memory(0)) as client:
            ready = await client.wait_until_ready(READY_S)
            assert ready.device == "cpu"
            assert [bench.device for bench in client.state.benched] == ["cuda"]
            audio_s, done = await heard(speak(client, SENTENCE), ready)
            assert audio_s > 0.5
            assert done.verdict is not None
            assert done.verdict.route == "cpu"

    run(work())
    assert_given_back(before)


def test_two_models_on_one_card_within_a_budget(tmp_path: Path) -> None:
    """Each is counted with no less than it takes, stage by stage, and gives it back."""
    before = free_memory()
    shutil.copytree(builtin_folder(), tmp_path / "models" / "mine")
    settings = gpu_settings(tmp_path, vram_budget_gb=4, model_wait_s=READY_S)

    async def use(pool: EnginePool, name: str) -> None:
        async with pool.lease(name) as lease:
            voice = lease.ready.default_voice
            request = Speak(
                id=uuid.uuid4().hex, text=f"{SENTENCE} " * 12, voice=voice, language="en", seed=1
            )
            assert [audio async for audio in lease.speak(request)]
            await asyncio.sleep(3)  # the next sign of life tells what that took

    async def work() -> None:
        pool = EnginePool(settings, ModelRegistry(settings))
        await pool.start()
        try:
            await asyncio.gather(use(pool, "builtin"), use(pool, "mine"))
            assert len(pool.models) == 2
            for model in pool.models:
                assert model.place == "gpu"
                assert set(model.stages) >= {"load", "prefill", "decode", "vocoder"}
                assert all(num_bytes > 0 for num_bytes in model.stages.values())
                assert model.peak_bytes is not None
                assert model.need_bytes >= model.peak_bytes
            assert sum(model.need_bytes for model in pool.models) <= 4e9
        finally:
            await pool.stop(0)

    run(work())
    assert_given_back(before)
