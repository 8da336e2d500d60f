"""The house stands as designed: layers, and who may import torch, coqui and fastapi."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: From the ground up; a module imports only rooms of lower floors, or its own room.
FLOORS = [
    {"errors"},
    {"settings", "files", "metrics", "messages"},
    {"text", "audio", "isolation"},
    {"devices"},
    {"engine"},
    {"models"},
    {"voices"},
    {"synthesis"},
    {"worker"},
    {"supervisor", "jobs"},
    {"api"},
    {"commands"},
    {"main"},
    {"__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

TORCH_ROOMS = ("app.devices.probe_child", "app.engine", "app.models", "app.voices.latents")
TORCH_ROOMS += ("app.synthesis", "app.worker.process", "app.worker.serving", "train")


def modules() -> list[Path]:
    return sorted(p for top in ("app", "train") for p in (ROOT / top).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Yields every module the file imports when it runs; `if TYPE_CHECKING` blocks don't."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending += ast.iter_child_nodes(node)


def room_of(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "app" and len(parts) > 1 and parts[1] in FLOOR_OF else None


def is_in(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def test_every_module_has_a_floor() -> None:
    rooms = {
        dotted(p).split(".")[1]
        for p in modules()
        if dotted(p).count(".") and dotted(p).startswith("app.")
    }
    assert rooms - set(FLOOR_OF) <= {"builtin", "web"}


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_module_imports_only_lower_rooms(path: Path) -> None:
    name = dotted(path)
    own = room_of(name)
    for imported in imports_of(path):
        assert not (name.startswith("app") and imported.startswith("train")), (
            "app never imports train"
        )
        target = room_of(imported)
        if own and target and target != own:
            assert FLOOR_OF[target] < FLOOR_OF[own], f"{name} imports {imported} from above"


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_torch_coqui_and_fastapi_stay_in_their_rooms(path: Path) -> None:
    name = dotted(path)
    for imported in imports_of(path):
        top = imported.split(".")[0]
        if top in {"torch", "torchaudio"}:
            assert is_in(name, TORCH_ROOMS), f"{name} imports {imported}"
        if top == "TTS":
            assert is_in(name, ("app.models.loading", "train")), f"{name} imports {imported}"
        if top in {"fastapi", "starlette"}:
            assert is_in(name, ("app.api", "app.main", "app.metrics")), f"{name} imports {imported}"


def test_the_api_process_imports_no_torch() -> None:
    code = "import sys, app.main, app.api.factory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_files_stay_small() -> None:
    too_long = {
        dotted(p): lines
        for p in [*modules(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
        if (lines := len(p.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert too_long == {}


def test_functions_stay_small() -> None:
    too_long = [
        f"{dotted(path)}.{node.name}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 80
    ]
    assert too_long == []
