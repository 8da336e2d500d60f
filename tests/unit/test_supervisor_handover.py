"""Handing an alias to another model: only after it has spoken, and back again by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from pooled import make_model, make_pool, pool_settings, running_pool, say

from app.errors import AudioVoiceError, ConflictError, DoesNotFitError, InputError, NotFoundError
from app.models.registry import ModelRegistry
from app.supervisor.handover import Handover
from app.text.sentences import sentences_for


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 180))


def test_an_alias_moves_after_a_canary_and_back_by_name(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "mine")
    settings = pool_settings(tmp_path, model_wait_s=60)
    registry = ModelRegistry(settings)

    async def work() -> None:
        async with running_pool(settings, registry=registry) as pool:
            handover = Handover(pool, registry, 60)
            async with pool.lease(registry.default) as old:
                under_way = asyncio.ensure_future(say(old, "steps=80 sleep=0.05"))
                handed = await handover.promote("default", "mine")
                assert (handed.model, handed.before) == ("mine", "builtin")
                assert handed.canary is not None
                assert handed.canary.text == sentences_for(["en"])[1][0]
                assert handed.canary.audio_s == pytest.approx(58_000 / 24_000)
                assert registry.default == registry.resolve("tts-1") == "mine"
                assert pool.state.phase == "ready"
                assert pool.state.ready is not None
                assert pool.state.ready.model == "mine"
                assert not under_way.done()
                assert len(await under_way) == 80 << 10  # it ends on the model it began with
            # another process, or the next start, sees the same
            assert ModelRegistry(settings).default == "mine"

            await handover.promote("narrator", "tts-1")
            assert registry.resolve("narrator") == "mine"
            back = await handover.roll_back("default")
            assert (back.model, back.before) == ("builtin", "mine")
            assert registry.default == "builtin"
            gone = await handover.roll_back("narrator")
            assert (gone.model, gone.before) == (None, "mine")
            with pytest.raises(NotFoundError, match="narrator"):
                registry.resolve("narrator")
            with pytest.raises(NotFoundError, match="never handed over"):
                await handover.roll_back("default")

    run(work())


def test_a_model_that_does_not_speak_gets_no_alias(tmp_path: Path) -> None:
    for name in ("mute", "broken"):
        make_model(tmp_path / "models" / name)
    make_model(tmp_path / "models" / "huge", num_bytes=8 << 30)
    settings = pool_settings(tmp_path, model_wait_s=60, ram_budget_gb=4)
    registry = ModelRegistry(settings)

    async def refused(handover: Handover, alias: str, model: str) -> AudioVoiceError:
        with pytest.raises(AudioVoiceError) as caught:
            await handover.promote(alias, model)
        assert registry.default == "builtin"
        assert not (settings.models_dir / "aliases.json").exists()
        return caught.value

    async def work() -> None:
        async with running_pool(
            settings, registry=registry, env={"FAKE_MISSING": "broken"}
        ) as pool:
            handover = Handover(pool, registry, 60)
            mute = await refused(handover, "default", "mute")
            assert isinstance(mute, ConflictError)
            assert mute.code == "canary_failed"
            assert "'default' stays" in mute.message
            assert "silent" in mute.message
            broken = await refused(handover, "default", "broken")
            assert isinstance(broken, ConflictError)
            assert "model.pth is missing" in broken.message
            assert isinstance(await refused(handover, "default", "huge"), DoesNotFitError)
            assert isinstance(await refused(handover, "default", "nobody"), NotFoundError)
            assert isinstance(await refused(handover, "builtin", "mute"), ConflictError)
            assert isinstance(await refused(handover, "../etc", "mute"), InputError)
            async with pool.lease("builtin") as lease:
                assert await say(lease)

    run(work())


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    make_model(tmp_path / "models" / "mine")
    settings = pool_settings(tmp_path, model_wait_s=60)
    registry = ModelRegistry(settings)
    (settings.models_dir / "aliases.json").mkdir()  # as good as a read-only folder, also for root

    async def work() -> None:
        async with running_pool(settings, registry=registry) as pool:
            with pytest.raises(AudioVoiceError, match=r"aliases\.json can't be written"):
                await Handover(pool, registry, 60).promote("default", "mine")
            assert registry.default == "builtin"

    run(work())


def test_the_models_of_a_service_that_does_not_run(tmp_path: Path) -> None:
    """As the command line does it: the pool loads what is promoted and nothing else."""
    make_model(tmp_path / "models" / "mine")
    settings = pool_settings(tmp_path, model_wait_s=60)
    registry = ModelRegistry(settings)

    async def work() -> None:
        pool = make_pool(settings, registry=registry)
        try:
            await Handover(pool, registry, 60).promote("tts-1", "mine")
            assert [model.name for model in pool.models] == ["mine"]
        finally:
            await pool.stop(0)
        told = json.loads((settings.models_dir / "aliases.json").read_text())
        assert told["aliases"]["tts-1"]["model"] == "mine"

    run(work())
