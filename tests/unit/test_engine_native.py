"""The compiled layers: the same as torch's, the same bits in any company, and never missed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy

from app.engine import native_build, native_linear
from app.engine.batch_decoder import BatchDecoder
from app.engine.cache_pool import PooledRow
from app.engine.gpt_weights import GptWeights, LayerWeights
from app.engine.int8_linear import Int8Linear, Int8Weight
from app.engine.linear import make_linear
from app.engine.native_cache import NativeCache
from app.engine.native_decoder import NativeDecoder
from app.engine.native_library import NativeChoice, load_native
from app.engine.native_linear import NativeLinear, make_int8_linear

needs_native = pytest.mark.skipif(
    load_native().library is None, reason=f"no compiled layers: {load_native().reason}"
)
LEAST_OF_GELU = -0.1701


def make_weights(dim: int, num_heads: int, num_layers: int = 2, scale: float = 1) -> GptWeights:
    """Returns random weights of any width whose layers are in 8 bits."""
    generator = torch.Generator().manual_seed(dim)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * shape[0] ** -0.5

    def draw_linear(num_in: int, num_out: int, lowest: float | None = None) -> native_linear.Linear:
        weight = Int8Weight.quantise(draw(num_in, num_out) * scale)
        return make_int8_linear(weight, draw(num_out), lowest)

    def draw_norm() -> tuple[torch.Tensor, torch.Tensor]:
        return 1 + 0.1 * draw(dim), 0.1 * draw(dim)

    layers = tuple(
        LayerWeights(
            attn_norm=draw_norm(),
            qkv=draw_linear(dim, 3 * dim),
            out=draw_linear(dim, dim),
            mlp_norm=draw_norm(),
            up=draw_linear(dim, 4 * dim),
            down=draw_linear(4 * dim, dim, LEAST_OF_GELU),
        )
        for _ in range(num_layers)
    )
    sizes = replace(
        toy.toy_model().gpt.sizes, num_layers=num_layers, model_dim=dim, num_heads=num_heads
    )
    return GptWeights(
        sizes=sizes,
        text_embedding=draw(sizes.num_text_tokens, dim),
        text_positions=draw(sizes.max_text_tokens + 3, dim),
        audio_embedding=draw(sizes.num_audio_tokens, dim),
        audio_positions=draw(sizes.max_audio_tokens + 6, dim),
        layers=layers,
        last_norm=draw_norm(),
        latent_norm=draw_norm(),
        head=make_linear(draw(dim, sizes.num_audio_tokens), draw(sizes.num_audio_tokens)),
    )


def make_plain(monkeypatch: pytest.MonkeyPatch, dim: int, num_heads: int) -> GptWeights:
    """Returns the same weights, as they are where nothing is compiled."""
    with monkeypatch.context() as patch:
        patch.setattr(native_linear, "load_native", lambda: NativeChoice(None, "a test"))
        return make_weights(dim, num_heads)


def start_rows(decoder: NativeDecoder, dim: int, num: int) -> list[PooledRow]:
    return [
        decoder.prefill((5, 6, 7) * (1 + 2 * index), toy.voice(index, dim).gpt_latents)[0]
        for index in range(num)
    ]


@needs_native
@pytest.mark.parametrize("cache", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("dim", "num_heads"), [(64, 4), (256, 4), (256, 2), (1024, 16), (96, 2)])
def test_layers_are_torchs(
    monkeypatch: pytest.MonkeyPatch, dim: int, num_heads: int, cache: torch.dtype
) -> None:
    weights, plain = make_weights(dim, num_heads), make_plain(monkeypatch, dim, num_heads)
    assert NativeDecoder.fits(weights, cache)
    assert not NativeDecoder.fits(plain, cache)
    assert isinstance(plain.layers[0].qkv, Int8Linear)
    ours, torchs = NativeDecoder(weights, cache, 2), BatchDecoder(plain, cache, 2)
    ids, voice = tuple(range(10, 40)), toy.voice(1, dim).gpt_latents
    row, given = ours.prefill(ids, voice)
    other, expected = torchs.prefill(ids, voice)
    # A number that lies between two 8-bit steps is rounded up by one and down by the other where
    # their last bits differ, and then others are: wide rows come as far apart as rounding to 8
    # bits is from exact. Torch also rounds to bfloat16 between its operations, where the cache is.
    allowed = 1e-4 if cache == torch.float32 and dim < 100 else 0.03
    for step in range(40):
        apart = (given.latents - expected.latents).norm() / expected.latents.norm()
        assert apart < allowed
        token = (step * 37) % 1024
        given, expected = ours.step([row], [token]), torchs.step([other], [token])


@needs_native
@pytest.mark.parametrize(("num_in", "num_out"), [(1024, 96), (4096, 64), (48, 32)])
@pytest.mark.parametrize("lowest", [None, LEAST_OF_GELU])
def test_products_are_torchs(num_in: int, num_out: int, lowest: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = Int8Weight.quantise(torch.randn(num_in, num_out, generator=generator))
    bias = torch.randn(num_out, generator=generator)
    rows = torch.randn(200, num_in, generator=generator)
    if lowest is not None:
        rows = torch.nn.functional.gelu(rows, approximate="tanh")
    linear = make_int8_linear(weight, bias, lowest)
    assert isinstance(linear, NativeLinear)
    expected = Int8Linear(weight, bias, lowest).apply(rows)
    apart = (linear.apply(rows) - expected).norm(dim=1) / expected.norm(dim=1)
    assert apart.max() < 0.01, "one number was rounded the other way"
    assert (apart < 1e-6).float().mean() > 0.95


@needs_native
@pytest.mark.parametrize("cache", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("num_rows", [3, 8, 17])
def test_a_rows_numbers_are_the_same_to_the_bit_in_any_company(
    num_rows: int, num_threads: int, cache: torch.dtype
) -> None:
    dim = 256
    weights = make_weights(dim, 4)
    together, alone = (NativeDecoder(weights, cache, num_rows) for _ in range(2))
    with toy.num_threads(num_threads):
        rows = start_rows(together, dim, num_rows)
    singles = start_rows(alone, dim, num_rows)
    for step in range(3):
        tokens = [(step * 31 + index) % 1024 for index in range(num_rows)]
        # in another order than they came in, each time
        order = [(index + step) % num_rows for index in range(num_rows)]
        with toy.num_threads(num_threads):
            logits, latents = together.step(
                [rows[index] for index in order], [tokens[index] for index in order]
            )
        for place, index in enumerate(order):
            expected = alone.step([singles[index]], [tokens[index]])
            assert torch.equal(logits[place], expected.logits[0])
            assert torch.equal(latents[place], expected.latents[0])


@needs_native
def test_a_row_of_xtts_width_is_the_same_to_the_bit_in_any_company() -> None:
    weights = make_weights(1024, 16, num_layers=1)
    together, alone = (NativeDecoder(weights, torch.bfloat16, 16) for _ in range(2))
    with toy.num_threads(2):
        rows = start_rows(together, 1024, 16)
        logits, _ = together.step(rows, list(range(16)))
    for index, row in enumerate(start_rows(alone, 1024, 16)):
        assert torch.equal(logits[index], alone.step([row], [index]).logits[0])


@needs_native
def test_a_row_whose_neighbour_is_broken_is_not() -> None:
    weights = make_weights(64, 4)
    decoder = NativeDecoder(weights, torch.bfloat16, 2)
    voice = toy.voice(1, 64).gpt_latents
    whole, _ = decoder.prefill((3, 4), voice)
    broken, output = decoder.prefill((3, 4), torch.full_like(voice, torch.nan))
    assert output.logits.isnan().all(), "nothing is made of what is none"
    logits, _ = decoder.step([broken, whole], [7, 7])
    assert logits[0].isnan().all()
    assert logits[1].isfinite().all()


@needs_native
def test_large_numbers_pass_through_the_gelu() -> None:
    weights = make_weights(64, 4, scale=1000)
    decoder = NativeDecoder(weights, torch.float32, 1)
    _, output = decoder.prefill((3, 4), toy.voice(1, 64).gpt_latents * 1e4)
    assert output.logits.isfinite().all()


@needs_native
def test_other_shapes_take_other_products() -> None:
    assert isinstance(make_int8_linear(*make_matrix(64, 32)), NativeLinear)
    assert isinstance(make_int8_linear(*make_matrix(64, 48)), Int8Linear)
    assert isinstance(make_int8_linear(*make_matrix(72, 32)), Int8Linear)
    weights = make_weights(96, 4)
    assert isinstance(weights.layers[0].down, NativeLinear)
    assert not NativeDecoder.fits(weights, torch.bfloat16), "heads are 24 wide"
    assert not NativeDecoder.fits(make_weights(64, 4), torch.float16)


def make_matrix(num_in: int, num_out: int) -> tuple[Int8Weight, torch.Tensor]:
    return Int8Weight.quantise(torch.ones(num_in, num_out)), torch.zeros(num_out)


def test_places_fall_free_and_memory_goes_back() -> None:
    sizes = toy.toy_model().gpt.sizes
    cache = NativeCache(sizes, 3, 200, torch.float32)
    assert cache.used_bytes == 0
    rows = [cache.open_row(10) for _ in range(3)]
    address = cache.struct.kept
    assert address
    assert [row.place for row in rows] == [0, 1, 2]
    assert cache.used_bytes == sizes.cache_bytes(30, torch.float32)
    del rows[1]
    assert cache.open_row(5).place == 1
    rows.append(cache.open_row(7))
    assert rows[-1].place == 1, "nobody held the one before"
    assert cache.struct.kept == address, "rows stay where they are"
    rows.clear()
    assert cache.used_bytes == 0
    assert cache.struct.kept is None


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("", "CC is empty"),
        ("no-such-compiler", "there is no C compiler"),
        ("false", "false failed"),
    ],
)
def test_without_a_compiler_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: str, reason: str
) -> None:
    sources = copy_sources(tmp_path)
    monkeypatch.setattr(native_build, "_SOURCES", sources)
    monkeypatch.setenv("CC", compiler)
    with native_build.built_library() as built:
        assert built.path is None
        assert reason in built.reason
    assert not list(sources.glob("__pycache__/*")), "nothing half made is left"


@needs_native
def test_it_is_compiled_once_and_again_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = copy_sources(tmp_path)
    monkeypatch.setattr(native_build, "_SOURCES", sources)
    quickly = tuple("-O0" if flag == "-O3" else flag for flag in native_build._FLAGS)
    monkeypatch.setattr(native_build, "_FLAGS", quickly)
    with native_build.built_library() as first, native_build.built_library() as second:
        assert first.path == second.path
        assert (first.reason, second.reason) == ("compiled now", "compiled before")
    with (sources / "rows.h").open("a") as stream:
        stream.write("\n")
    with native_build.built_library() as other:
        assert other.path != first.path
    (sources / "__pycache__").rename(tmp_path / "away")
    (sources / "__pycache__").write_text("in the way")
    with native_build.built_library() as passing:
        assert passing.path is not None
        assert passing.path.is_file()
    assert not passing.path.exists()


def test_building_for_an_image_imports_no_torch() -> None:
    code = "import sys, app.engine.native_build; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def copy_sources(folder: Path) -> Path:
    sources = folder / "native"
    sources.mkdir()
    for name in native_build._UNITS:
        (sources / name).write_bytes((native_build._SOURCES / name).read_bytes())
    return sources
