"""Conditioning of voices: from the bundle, computed, and cached by what it follows from."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.audio.clip import Clip
from app.engine.types import Conditioning
from app.errors import NotFoundError
from app.models.bundles import find_bundle
from app.models.conditioning import Conditioner
from app.models.loading import LoadedModel, load_model
from app.models.stored_voices import write_voice
from app.settings import Settings
from app.voices.latents import VoiceLatents
from app.voices.store import VoiceStore

RATE = 24000


class CountingConditioner:
    """The model's own conditioner, with a count of its work."""

    def __init__(self, conditioner: Conditioner, identity: str) -> None:
        self._conditioner = conditioner
        self.identity = identity
        self.num_encoded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conditioner, name)

    def encode(self, *args: Any) -> Conditioning:
        self.num_encoded += 1
        return self._conditioner.encode(*args)


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedModel]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model(find_bundle("builtin", Settings()))
    torch.set_num_threads(before)


@pytest.fixture
def model(loaded: LoadedModel) -> LoadedModel:
    counting: Any = CountingConditioner(loaded.conditioner, loaded.conditioner.identity)
    return dataclasses.replace(loaded, conditioner=counting)


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    return VoiceStore(tmp_path / "voices", max_voices=10)


def upload(store: VoiceStore, name: str, hz: float = 220.0) -> None:
    samples = 0.5 * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)
    store.add(name, Clip(samples.astype(np.float32), RATE), consent="mine")


def num_encoded(model: LoadedModel) -> int:
    conditioner: Any = model.conditioner
    return int(conditioner.num_encoded)


def assert_same(one: Conditioning, other: Conditioning) -> None:
    assert torch.equal(one.gpt_latents, other.gpt_latents)
    assert torch.equal(one.speaker_embedding, other.speaker_embedding)


def test_bundle_voices_come_at_once(model: LoadedModel, store: VoiceStore, tmp_path: Path) -> None:
    latents = VoiceLatents(model, store, tmp_path / "cache")
    assert latents.get("kathleen") is model.voices["kathleen"]
    assert num_encoded(model) == 0


def test_an_uploaded_voice_is_computed_once(
    model: LoadedModel, store: VoiceStore, tmp_path: Path
) -> None:
    upload(store, "ann")
    latents = VoiceLatents(model, store, tmp_path / "cache")
    first = latents.get("ann")
    clip = store.read_clip("ann")
    assert_same(first, model.conditioner.encode(clip.samples, clip.sample_rate))
    assert latents.get("ann") is first
    assert num_encoded(model) == 2  # one of them is the line above


def test_the_disk_cache_outlives_the_process(
    model: LoadedModel, store: VoiceStore, tmp_path: Path
) -> None:
    upload(store, "ann")
    first = VoiceLatents(model, store, tmp_path / "cache").get("ann")
    again = VoiceLatents(model, store, tmp_path / "cache").get("ann")
    assert_same(first, again)
    assert num_encoded(model) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 1, "temporary files were left"


def test_a_voice_replaced_under_its_name_is_another_voice(
    model: LoadedModel, store: VoiceStore, tmp_path: Path
) -> None:
    latents = VoiceLatents(model, store, tmp_path / "cache")
    upload(store, "ann", hz=220)
    first = latents.get("ann")
    store.delete("ann")
    with pytest.raises(NotFoundError):
        latents.get("ann")
    upload(store, "ann", hz=330)
    assert not torch.equal(latents.get("ann").gpt_latents, first.gpt_latents)


def test_another_model_does_not_take_this_ones_cache(
    model: LoadedModel, loaded: LoadedModel, store: VoiceStore, tmp_path: Path
) -> None:
    upload(store, "ann")
    VoiceLatents(model, store, tmp_path / "cache").get("ann")
    changed: Any = CountingConditioner(loaded.conditioner, identity="of other weights")
    other = dataclasses.replace(loaded, conditioner=changed)
    VoiceLatents(other, store, tmp_path / "cache").get("ann")
    assert num_encoded(other) == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "nan", "other model's"])
def test_a_damaged_cache_file_is_computed_again_and_mended(
    model: LoadedModel,
    store: VoiceStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    upload(store, "ann")
    first = VoiceLatents(model, store, tmp_path / "cache").get("ann")
    (path,) = (tmp_path / "cache").iterdir()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "nan":
        write_voice(path, Conditioning(first.gpt_latents * torch.nan, first.speaker_embedding))
    else:
        write_voice(path, Conditioning(first.gpt_latents[..., :8], first.speaker_embedding))

    with caplog.at_level(logging.WARNING):
        again = VoiceLatents(model, store, tmp_path / "cache").get("ann")

    assert_same(first, again)
    assert num_encoded(model) == 2
    assert "computed again" in caplog.text
    assert str(path) in caplog.text
    VoiceLatents(model, store, tmp_path / "cache").get("ann")
    assert num_encoded(model) == 2


def test_memory_keeps_the_voices_used_last(
    model: LoadedModel, store: VoiceStore, tmp_path: Path
) -> None:
    latents = VoiceLatents(model, store, tmp_path / "cache", max_in_memory=2)
    for index, name in enumerate(("ann", "bob", "cy")):
        upload(store, name, hz=200 + 50 * index)
    ann, bob = latents.get("ann"), latents.get("bob")
    assert latents.get("ann") is ann
    latents.get("cy")  # pushes out bob, who was used longest ago
    assert latents.get("ann") is ann
    assert latents.get("bob") is not bob
    assert num_encoded(model) == 3, "the disk has him still"


def test_a_full_or_closed_disk_costs_the_cache_and_not_the_voice(
    model: LoadedModel, store: VoiceStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upload(store, "ann")
    (tmp_path / "cache").write_text("a file where the folder belongs")
    with caplog.at_level(logging.WARNING):
        assert VoiceLatents(model, store, tmp_path / "cache").get("ann").gpt_latents.ndim == 3
    assert "not cached on disk" in caplog.text
