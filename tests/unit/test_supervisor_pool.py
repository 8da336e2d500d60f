"""Several models beside each other: real workers of a fake engine, one for each model."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from pooled import make_model, names_of, pool_settings, running_pool, say, status_of
from supervised import children, until

from app.errors import DoesNotFitError, UnavailableError
from app.messages import Speak
from app.models.bundles import builtin_folder, read_folder
from app.models.footprint import estimate_footprint
from app.supervisor import pool as pool_module
from app.supervisor.loaded import ModelStatus
from app.supervisor.pool import EnginePool

PIECES = b"".join(bytes([n]) * 1024 for n in range(3))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 180))


def pid_of(pool: EnginePool, name: str) -> int:
    status = status_of(pool, name)
    assert status is not None
    assert status.state.pid is not None
    return status.state.pid


def test_a_model_is_loaded_when_it_is_asked_for_and_held_while_it_is_used(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "second")

    async def work() -> None:
        async with running_pool(pool_settings(tmp_path, model_wait_s=60)) as pool:
            assert names_of(pool) == {"builtin"}
            async with pool.lease("second") as lease:
                assert lease.ready.model == "second"
                assert await say(lease) == PIECES
                second = status_of(pool, "second")
                assert second is not None
                assert (second.leases, second.is_default) == (1, False)
            async with pool.lease("builtin") as lease:  # waits for the load that goes on
                assert await say(lease) == PIECES
            assert [model.name for model in pool.models] == ["builtin", "second"]
            assert pool.models[1].leases == 0
            assert pid_of(pool, "builtin") != pid_of(pool, "second")
            await until(lambda: pool.models[1].stages == {"load": 5, "decode": 7})
        assert children() == []
        assert pool.state.phase == "stopped"

    run(work())


def test_a_killed_worker_is_no_other_models_affair(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "second")

    async def work() -> None:
        async with running_pool(pool_settings(tmp_path, model_wait_s=60)) as pool:
            async with pool.lease("builtin") as one, pool.lease("second") as other:
                long = asyncio.ensure_future(say(one, "steps=40 sleep=0.05"))
                lost = asyncio.ensure_future(say(other, "steps=4000 sleep=0.05"))
                await asyncio.sleep(0.3)
                os.kill(pid_of(pool, "second"), signal.SIGKILL)
                with pytest.raises(UnavailableError, match="SIGKILL"):
                    await lost
                assert len(await long) == 40 << 10
            second = status_of(pool, "second")
            first = status_of(pool, "builtin")
            assert second is not None
            assert first is not None
            await until(lambda: pool.num_restarts == 1)
            assert first.state.restarts == 0
            await until(lambda: status_of(pool, "second").state.phase == "ready")  # type: ignore[union-attr]
            async with pool.lease("second") as lease:
                assert await say(lease) == PIECES

    run(work())


def test_an_idle_model_leaves_and_the_default_stays(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "second")

    async def work() -> None:
        settings = pool_settings(tmp_path, model_wait_s=60, model_idle_s=0.5)
        async with running_pool(settings) as pool:
            async with pool.lease("second") as lease:
                await asyncio.sleep(1.5)  # held, so not idle
                assert await say(lease) == PIECES
            await until(lambda: names_of(pool) == {"builtin"})
            await asyncio.sleep(1)
            assert names_of(pool) == {"builtin"}
            async with pool.lease("second") as lease:
                assert await say(lease) == PIECES

    run(work())


def test_the_longest_unused_makes_room_and_one_in_use_does_not(tmp_path: Path) -> None:
    """Each model may have a few rows of what 0.95 GB leave beside it, so no two fit together."""
    for name in ("second", "third"):
        make_model(tmp_path / "models" / name)

    async def work() -> None:
        settings = pool_settings(tmp_path, model_wait_s=60, ram_budget_gb=0.95)
        async with running_pool(settings) as pool:
            async with pool.lease("builtin") as lease:
                assert await say(lease) == PIECES
            # what the weights leave room for; in a guided model a row takes twice as much
            bundle = read_folder(builtin_folder(), "builtin")
            fits = estimate_footprint(bundle, settings, "cpu").rows_within(950_000_000, 16)
            assert 2 <= pool.models[0].rows == fits < 16
            assert "RAM_BUDGET_GB=0.95" in pool.models[0].rows_reason
            async with pool.lease("second") as held:
                assert names_of(pool) == {"second"}
                assert pool.state.phase == "unloaded"
                assert pool.state.ready is not None  # it can speak as soon as it is asked to
                assert "make room for second" in pool.state.reason
                with pytest.raises(UnavailableError) as caught:
                    async with pool.lease("third", wait_s=0.2):
                        pass
                assert caught.value.code == "no_room"
                assert caught.value.retry_after_s
                waiting = asyncio.ensure_future(use(pool, "third"))
                await asyncio.sleep(0.3)
                assert await say(held) == PIECES
                assert not waiting.done()
            assert await waiting == PIECES
            assert names_of(pool) == {"third"}

    run(work())


async def use(pool: EnginePool, name: str) -> bytes:
    async with pool.lease(name) as lease:
        return await say(lease)


def test_what_can_never_fit_is_told_before_anything_starts(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "huge", num_bytes=8 << 30)

    async def work() -> None:
        async with running_pool(pool_settings(tmp_path, ram_budget_gb=2)) as pool:
            before = children()
            with pytest.raises(DoesNotFitError, match=r"'huge' needs about 9\.\d GB.*allows 2\.0"):
                await use(pool, "huge")
            assert [child.pid for child in children()] == [child.pid for child in before]
        async with running_pool(
            pool_settings(tmp_path, ram_budget_gb=2, default_model="huge")
        ) as pool:
            assert pool.state.phase == "failed"
            assert "RAM_BUDGET_GB" in pool.state.reason

    run(work())


def test_a_load_that_takes_long_is_waited_for_within_bounds(tmp_path: Path) -> None:
    async def work() -> None:
        settings = pool_settings(tmp_path, model_wait_s=0.3)
        async with running_pool(settings, factory="create_slowly") as pool:
            with pytest.raises(UnavailableError, match="starting") as caught:
                await use(pool, "builtin")
            assert caught.value.code == "not_ready"
            assert caught.value.retry_after_s
            waiting = asyncio.ensure_future(use(pool, "builtin"))
            await asyncio.sleep(0)
            await pool.stop(0)
            with pytest.raises(UnavailableError):
                await waiting

    run(work())


def test_a_model_that_cannot_be_used_says_why_and_may_be_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(tmp_path / "models" / "broken")
    env = {"FAKE_MISSING": "broken"}

    async def work() -> None:
        settings = pool_settings(tmp_path, model_wait_s=60)
        async with running_pool(settings, env=env) as pool:
            with pytest.raises(UnavailableError, match=r"model\.pth is missing") as caught:
                await use(pool, "broken")
            assert caught.value.code == "model_failed"
            with pytest.raises(UnavailableError, match=r"model\.pth is missing"):
                await use(pool, "broken")
            env.clear()
            monkeypatch.setattr(pool_module, "_FORGET_FAILURE_S", 0)
            assert await use(pool, "broken") == PIECES
            assert await use(pool, "builtin") == PIECES

    run(work())


def test_losses_of_all_models_together_bench_a_device_for_all(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "second")
    crash = Speak(id="crash", text="segv", voice="anna", language="en")

    async def work() -> None:
        settings = pool_settings(tmp_path, model_wait_s=60, device="auto")
        async with running_pool(settings, env={"FAKE_DEVICE": "cuda"}) as pool:
            for name in ("builtin", "second", "second"):
                async with pool.lease(name) as lease:
                    assert lease.ready.device == "cuda"
                    with pytest.raises(UnavailableError, match="SIGSEGV"):
                        await lease.speak(crash).__anext__()
                await until(lambda name=name: is_ready(pool, name))
            assert [bench.device for bench in pool.benched] == ["cuda"]
            async with pool.lease("second") as lease:
                assert lease.ready.device == "cpu"
            # the default has not failed since, and moves as soon as nobody needs it
            await until(lambda: device_of(pool, "builtin") == "cpu", 60)
            assert await use(pool, "builtin") == PIECES

    run(work())


def is_ready(pool: EnginePool, name: str) -> bool:
    status = status_of(pool, name)
    return status is not None and status.state.phase == "ready"


def device_of(pool: EnginePool, name: str) -> str:
    status = status_of(pool, name)
    return status.state.ready.device if status and status.state.ready else ""


@pytest.mark.parametrize(
    ("fields", "env", "rows", "reason"),
    [
        ({}, {}, 64, "the default on a GPU"),
        ({"max_batch_rows": 100}, {}, 100, "MAX_BATCH_ROWS"),
        # the worker did not get its card
        ({"vram_budget_gb": 1.05}, {"FAKE_DEVICE": "cpu"}, 16, "the default on a CPU"),
    ],
)
def test_rows_are_a_persons_or_the_devices(
    tmp_path: Path, fields: dict[str, Any], env: dict[str, str], rows: int, reason: str
) -> None:
    status = loaded_on_gpu(tmp_path, fields, env)
    assert (status.rows, status.rows_reason.partition(";")[0]) == (rows, reason)


@pytest.mark.parametrize(
    ("budget_gb", "share", "reason"),
    [
        (2.4, 0.5, "half of the budget"),  # more than 16, yet another model finds room
        (1.05, 1, "VRAM_BUDGET_GB=1.05 leaves room for"),
    ],
)
def test_a_gpu_has_the_rows_that_its_memory_holds(
    tmp_path: Path, budget_gb: float, share: float, reason: str
) -> None:
    status = loaded_on_gpu(tmp_path, {"vram_budget_gb": budget_gb}, {})
    bundle = read_folder(builtin_folder(), "builtin")
    need = estimate_footprint(bundle, pool_settings(tmp_path), "gpu")
    assert 1 < status.rows == need.rows_within(round(share * budget_gb * 1e9), 64) < 64
    assert reason in status.rows_reason


def loaded_on_gpu(tmp_path: Path, fields: dict[str, Any], env: dict[str, str]) -> ModelStatus:
    """Returns what is told of the default model once its worker has said what it took."""
    found: list[ModelStatus] = []

    async def work() -> None:
        settings = pool_settings(tmp_path, device="cuda", model_wait_s=60, **fields)
        async with running_pool(settings, env={"FAKE_DEVICE": "cuda", **env}) as pool:
            await use(pool, "builtin")
            await until(lambda: pool.models[0].state.heartbeat)
            (status,) = pool.models
            assert status.state.ready is not None
            (told,) = [route for route in status.state.ready.routes if route.name == "rows"]
            assert (status.rows, status.rows_reason) == (int(told.choice), told.reason)
            found.append(status)

    run(work())
    return found[0]
