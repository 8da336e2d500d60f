"""What an opened synthesizer says of the choices that were made for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy

from app.devices.place_order import PlaceOrder, RowsOrder
from app.engine import native_linear
from app.engine.int8_linear import has_exact_int8
from app.engine.native_library import NativeChoice, load_native
from app.messages import Route
from app.models.bundles import builtin_folder, read_folder
from app.models.footprint import WORK_BYTES, estimate_footprint
from app.settings import Settings
from app.synthesis import opening
from app.synthesis.placing import Placement


def open_routes(folder: Path, precision: str, order: PlaceOrder | None = None) -> dict[str, Route]:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        default_model=str(toy.toy_folder()),
        device="cpu",
        precision=precision,  # type: ignore[arg-type]
        threads=1,
        cache_dir=folder / "cache",
        voices_dir=folder / "voices",
    )
    synthesizer = opening.open_synthesizer(settings, lambda stage, device="": None, order)
    return {route.name: route for route in synthesizer.info.routes}


@pytest.mark.skipif(not has_exact_int8(), reason="this processor has no exact 8-bit products")
def test_what_runs_the_layers_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "layers" not in open_routes(tmp_path, "float32"), "there is nothing to choose"
    told = open_routes(tmp_path, "int8")["layers"]
    assert told.choice == ("compiled" if load_native().library else "torch")
    assert told.reason
    for room in (native_linear, opening):
        monkeypatch.setattr(room, "load_native", lambda: NativeChoice(None, "no compiler"))
    assert open_routes(tmp_path, "int8")["layers"] == Route("layers", "torch", "no compiler")


def test_rows_and_their_room_are_told(tmp_path: Path) -> None:
    told = open_routes(tmp_path, "float32")
    assert told["rows"] == Route("rows", "16", "the default on a CPU")
    assert told["caches"] == Route("caches", "1536 MB", "the default on a CPU")
    order = PlaceOrder(rows=RowsOrder("cpu", 3, "RAM_BUDGET_GB leaves room for"))
    told = open_routes(tmp_path, "float32", order)
    assert told["rows"] == Route("rows", "3", "RAM_BUDGET_GB leaves room for")


@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.bfloat16, "bfloat16"), (torch.float32, "float32")]
)
def test_rows_on_a_card_are_counted_in_the_format_it_was_loaded_in(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, precision: str
) -> None:
    """With PRECISION=auto, which may come to either."""
    bundle = read_folder(builtin_folder(), "builtin")
    counted = Settings(_env_file=None, precision=precision)  # type: ignore[call-arg, arg-type]
    row_bytes = estimate_footprint(bundle, counted, "gpu").row_bytes
    monkeypatch.setattr(opening, "free_bytes", lambda _: WORK_BYTES + 7 * row_bytes)
    place = Placement(torch.device("cuda"), dtype, "device", "a test", ())
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    capacity = opening._choose_capacity(settings, place, bundle, None)
    assert capacity.rows.most == 7
    assert "free memory" in capacity.rows.reason
    assert capacity.cache_bytes is None
