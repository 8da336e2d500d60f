"""What an opened synthesizer says of the choices that were made for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy

from app.engine import native_linear
from app.engine.int8_linear import has_exact_int8
from app.engine.native_library import NativeChoice, load_native
from app.messages import Route
from app.settings import Settings
from app.synthesis import opening


def open_routes(folder: Path, precision: str) -> dict[str, Route]:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        default_model=str(toy.toy_folder()),
        device="cpu",
        precision=precision,  # type: ignore[arg-type]
        threads=1,
        cache_dir=folder / "cache",
        voices_dir=folder / "voices",
    )
    synthesizer = opening.open_synthesizer(settings, lambda stage, device="": None)
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
