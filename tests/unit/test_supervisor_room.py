"""What a model will take, what there is for it, and who has to leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from pooled import make_model
from safetensors import safe_open

from app.devices.hardware import memory_limit
from app.engine.formats import INT8_PAYS_FROM_BYTES
from app.errors import DoesNotFitError, ModelFileError
from app.models import footprint
from app.models.bundles import builtin_folder, read_folder
from app.models.capacity import Rows
from app.models.footprint import (
    CONTEXT_BYTES,
    INT8_FROM_BYTES,
    PROCESS_BYTES,
    WORK_BYTES,
    Footprint,
    estimate_footprint,
    num_weights,
)
from app.settings import Settings
from app.supervisor.budget import GB, Budget, budget_of
from app.supervisor.room import Placing, Tenant, find_room

WANTED = Rows(16, "MAX_BATCH_ROWS")
NEED = Footprint(loaded_bytes=2 * GB, row_bytes=GB // 10, work_bytes=0)


def budget(gigabytes: float, *, is_strict: bool = True) -> Budget:
    return Budget("gpu", round(gigabytes * GB), "VRAM_BUDGET_GB", is_strict)


def tenant(name: str, gigabytes: float, used_at: float = 0, **fields: bool) -> Tenant:
    flags = {"is_idle": True, "is_default": False, **fields}
    return Tenant(name, round(gigabytes * GB), used_at=used_at, **flags)


def test_rows_follow_from_what_is_left() -> None:
    assert find_room("m", NEED, budget(10), [], WANTED) == Placing((), 16, "MAX_BATCH_ROWS")
    placing = find_room("m", NEED, budget(2.85), [], WANTED)
    assert placing == Placing((), 8, "what VRAM_BUDGET_GB leaves room for")
    unknown = Budget("gpu", None, "the card's memory is not known")
    assert find_room("m", NEED, unknown, [tenant("a", 99)], WANTED) == Placing(
        (), 16, "MAX_BATCH_ROWS; the card's memory is not known"
    )


def test_the_longest_unused_leaves_first_the_default_last_and_no_more_than_needed() -> None:
    tenants = [
        tenant("default", 3, used_at=1, is_default=True),
        tenant("old", 3, used_at=2),
        tenant("new", 3, used_at=3),
    ]

    def evicted(gigabytes: float) -> tuple[str, ...]:
        placing = find_room("m", NEED, budget(gigabytes), tenants, WANTED)
        assert placing is not None
        return placing.evict

    assert evicted(11.5) == ()
    assert evicted(11) == ("old",)  # two rows would fit beside all, and that is too few
    assert evicted(8) == ("old", "new")
    assert evicted(5) == ("old", "new", "default")


def test_a_model_in_use_is_waited_for_and_a_single_row_is_better_than_that() -> None:
    busy = tenant("busy", 3, is_idle=False)
    assert find_room("m", NEED, budget(5), [busy], WANTED) is None
    placing = find_room("m", NEED, budget(5.15), [busy], WANTED)
    assert placing is not None
    assert (placing.rows, placing.evict) == (1, ())


def test_what_never_fits_is_refused_where_a_person_set_the_budget() -> None:
    with pytest.raises(
        DoesNotFitError, match=r"'m' needs about 2\.1 GB and VRAM_BUDGET_GB"
    ) as told:
        find_room("m", NEED, budget(2), [tenant("a", 1)], WANTED)
    assert (told.value.status, told.value.code) == (507, "does_not_fit")
    placing = find_room("m", NEED, budget(2, is_strict=False), [tenant("a", 1)], WANTED)
    assert placing is not None
    assert (placing.rows, placing.evict) == (1, ("a",))


def test_what_was_measured_takes_the_place_of_what_was_estimated() -> None:
    assert NEED.refined(None, None, 4) == NEED
    smaller = NEED.refined(GB, GB, 4)
    assert smaller.total(4) == round(1.4 * GB)
    larger = NEED.refined(GB, 3 * GB, 4)
    assert larger.total(4) == 3 * GB
    assert larger.refined(GB, 3 * GB, 4) == larger


def test_budgets_and_where_they_come_from(tmp_path: Path) -> None:
    def found(**fields: object) -> Budget:
        settings = Settings(_env_file=None, cache_dir=tmp_path, device="cpu", **fields)
        return budget_of(settings, "gpu", 10 * GB)

    assert found() == Budget("gpu", 9 * GB, "90% of the card's memory")
    assert found(memory_preset="vram-12gb").limit_bytes == 11 * GB
    both = found(memory_preset="vram-12gb", vram_budget_gb=6)
    assert both == Budget("gpu", 6 * GB, "VRAM_BUDGET_GB=6", True)
    settings = Settings(_env_file=None, cache_dir=tmp_path)
    assert budget_of(settings, "gpu").limit_bytes is None
    machine = budget_of(settings, "cpu")
    assert machine.limit_bytes == round(0.9 * (memory_limit() or 0))
    assert not machine.is_strict


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 5000000 kB\n")
    assert memory_limit(tmp_path) == 8_000_000 * 1024
    cgroup = tmp_path / "sys/fs/cgroup"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) == 8_000_000 * 1024
    (cgroup / "memory.max").write_text(f"{2 << 30}\n")
    assert memory_limit(tmp_path) == 2 << 30
    assert memory_limit(tmp_path / "nowhere") is None


def test_the_estimate_of_the_shipped_model() -> None:
    bundle = read_folder(builtin_folder(), "builtin")
    with safe_open(bundle.weights, "np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    numbers = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        numbers += count
    assert num_weights(bundle.weights) == numbers
    on_cpu = estimate_footprint(bundle, Settings(_env_file=None), "cpu")
    assert on_cpu.loaded_bytes == PROCESS_BYTES + 4 * numbers
    assert on_cpu.work_bytes == WORK_BYTES
    # 6 layers, 2 x 256 wide, 768 positions (34 + 252 + 402 in blocks of 128), float32
    assert bundle.manifest is not None
    is_guided = bundle.manifest.sampling.guidance_scale != 1
    cache = (1 + is_guided) * 6 * 2 * 256 * 768 * 4
    assert cache < on_cpu.row_bytes < 2 * cache
    on_gpu = estimate_footprint(bundle, Settings(_env_file=None), "gpu")
    assert on_gpu.loaded_bytes == CONTEXT_BYTES + 2 * numbers
    full = estimate_footprint(bundle, Settings(_env_file=None, precision="float32"), "gpu")
    assert full.row_bytes == pytest.approx(2 * on_gpu.row_bytes, abs=2)
    # a chunk of 40 tokens has neighbours of 14 beside it there
    sounded = on_cpu.row_bytes - cache
    assert full.row_bytes == pytest.approx(cache + sounded * 54 / 40, rel=1e-6)


def test_a_large_gpt_is_counted_in_8_bits_where_the_processor_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert INT8_FROM_BYTES == INT8_PAYS_FROM_BYTES
    folder = make_model(tmp_path / "full", num_bytes=467_000_000 * 4)
    (folder / "decoder.json").unlink()
    (folder / "config.json").write_text('{"model": "xtts", "model_args": {"gpt_layers": 30}}')
    bundle = read_folder(folder, "full")

    def loaded(**fields: object) -> int:
        settings = Settings(_env_file=None, **fields)
        return estimate_footprint(bundle, settings, "cpu").loaded_bytes - PROCESS_BYTES

    monkeypatch.setattr(footprint, "processor_flags", lambda: frozenset({"avx2"}))
    assert loaded() == 467_000_000 * 4
    monkeypatch.setattr(footprint, "processor_flags", lambda: frozenset({"avx512_vnni"}))
    matrices = 30 * 12 * 1024**2
    assert loaded() == 467_000_000 * 4 - 3 * matrices
    assert loaded(precision="float32") == 467_000_000 * 4


def test_weights_that_are_cut_short_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((builtin_folder() / "model.safetensors").read_bytes()[:100])
    with pytest.raises(ModelFileError, match=r"model\.safetensors can't be read"):
        num_weights(path)
