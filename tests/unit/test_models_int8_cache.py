"""8-bit weights on disk: made once, found again by content, and no harm when they are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import save_file

from app.engine.formats import Formats
from app.engine.int8_linear import has_exact_int8
from app.models.bundles import find_bundle
from app.models.int8_cache import content_of, int8_parts
from app.models.loading import load_model
from app.models.mapped import release_pages
from app.models.weights import read_state
from app.settings import Settings


def choose_int8(gpt_bytes: int) -> Formats:
    return Formats("int8", torch.float32, torch.float32, "a test")


def test_a_second_start_reads_what_the_first_one_made(tmp_path: Path) -> None:
    weights = toy.toy_folder() / "model.pth"
    state = read_state(weights)
    made = int8_parts(state, weights, tmp_path)
    (kept,) = (tmp_path / "int8").iterdir()
    found = int8_parts({}, weights, tmp_path)
    assert found.keys() == made.keys() == int8_parts(state, weights, None).keys()
    assert all(torch.equal(found[name], made[name]) for name in made)

    kept.write_bytes(kept.read_bytes()[:1000])
    again = int8_parts(state, weights, tmp_path)
    assert all(
        torch.equal(again[name], value) for name, value in int8_parts(state, weights, None).items()
    )
    assert len(kept.read_bytes()) > 1000, "the damaged file was made anew"


def test_where_nothing_can_be_kept_they_are_made_in_memory(tmp_path: Path) -> None:
    weights = toy.toy_folder() / "model.pth"
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    state = read_state(weights)
    assert int8_parts(state, weights, blocked).keys() == int8_parts(state, weights, None).keys()


def test_other_content_has_another_name(tmp_path: Path) -> None:
    names = set()
    for index, value in enumerate((1.0, 2.0)):
        torch.save({"a": torch.full((4,), value)}, tmp_path / f"{index}.pth")
        save_file({"a": torch.full((4,), value)}, tmp_path / f"{index}.safetensors")
        names |= {
            content_of(tmp_path / f"{index}.pth"),
            content_of(tmp_path / f"{index}.safetensors"),
        }
    assert len(names) == 4
    copy = tmp_path / "copy.pth"
    copy.write_bytes((tmp_path / "0.pth").read_bytes())
    assert content_of(copy) == content_of(tmp_path / "0.pth")


@pytest.mark.skipif(not has_exact_int8(), reason="this processor has no exact 8-bit products")
def test_a_model_loads_in_8_bits(tmp_path: Path) -> None:
    bundle = find_bundle(str(toy.toy_folder()), Settings(_env_file=None))  # type: ignore[call-arg]
    for _ in range(2):
        model = load_model(bundle, formats=choose_int8, cache_dir=tmp_path)
        assert model.speech.gpt.is_int8
        assert model.formats.gpt == "int8"
    assert len(list((tmp_path / "int8").iterdir())) == 1
    assert not load_model(bundle).speech.gpt.is_int8


def test_released_pages_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.arange(3_000_000.0)}, path)
    state = read_state(path)
    total = state["a"].double().sum()
    release_pages(path)
    assert state["a"].double().sum() == total
