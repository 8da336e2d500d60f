"""The decoder's numbers: the same in any company, at XTTS's own widths, and as the slow path's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import toy

from app.engine.decoder import DecodeRow, GptDecoder, _gelu
from app.engine.gpt_weights import GptSizes, GptWeights, LayerWeights
from app.engine.kv_cache import KvCache
from app.engine.linear import Linear, PackedLinear, PlainLinear, make_linear
from app.engine.reference import ReferenceDecoder


def make_wide_weights(dim: int, num_heads: int) -> GptWeights:
    """Returns random weights of one layer of any width."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * shape[0] ** -0.5

    def draw_linear(num_in: int, num_out: int) -> Linear:
        return make_linear(draw(num_in, num_out), draw(num_out))

    layer = LayerWeights(
        attn_norm=(torch.ones(dim), torch.zeros(dim)),
        qkv=draw_linear(dim, 3 * dim),
        out=draw_linear(dim, dim),
        mlp_norm=(torch.ones(dim), torch.zeros(dim)),
        up=draw_linear(dim, 4 * dim),
        down=draw_linear(4 * dim, dim),
    )
    sizes = replace(toy.toy_model().gpt.sizes, num_layers=1, model_dim=dim, num_heads=num_heads)
    norm = (torch.ones(dim), torch.zeros(dim))
    return GptWeights(
        sizes=sizes,
        text_embedding=draw(sizes.num_text_tokens, dim),
        text_positions=draw(sizes.max_text_tokens + 3, dim),
        audio_embedding=draw(sizes.num_audio_tokens, dim),
        audio_positions=draw(sizes.max_audio_tokens + 6, dim),
        layers=(layer,),
        last_norm=norm,
        latent_norm=norm,
        head=draw_linear(dim, sizes.num_audio_tokens),
    )


def start_rows(decoder: GptDecoder, dim: int, num: int) -> list[DecodeRow]:
    return [
        decoder.prefill((5, 6, 7) * (1 + 2 * index), toy.voice(index, dim).gpt_latents)[0]
        for index in range(num)
    ]


@pytest.mark.parametrize(("dim", "num_heads"), [(64, 4), (256, 4), (1024, 16), (48, 3)])
@pytest.mark.parametrize("num_rows", [3, 16])
def test_a_rows_numbers_are_the_same_to_the_bit_in_any_company(
    dim: int, num_heads: int, num_rows: int
) -> None:
    decoder = GptDecoder(make_wide_weights(dim, num_heads))
    with toy.num_threads(2):
        together = start_rows(decoder, dim, num_rows)
        alone = start_rows(decoder, dim, num_rows)
        for step in range(2):
            tokens = [(step * 31 + index) % 1024 for index in range(num_rows)]
            logits, latents = decoder.step(together, tokens)
            for index, row in enumerate(alone):
                expected = decoder.step([row], [tokens[index]])
                assert torch.equal(logits[index], expected.logits[0])
                assert torch.equal(latents[index], expected.latents[0])


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_gelu_of_a_row_does_not_depend_on_threads(num_threads: int) -> None:
    wide = torch.randn(17, 4096, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([F.gelu(row[None], approximate="tanh") for row in wide])
    with toy.num_threads(num_threads):
        assert torch.equal(_gelu(wide), alone)


def test_fast_and_slow_path_agree() -> None:
    weights = toy.toy_model().gpt
    fast, slow = GptDecoder(weights), ReferenceDecoder(weights)
    token_ids, voice = tuple(range(10, 40)), toy.voice(1).gpt_latents
    fast_row, ours = fast.prefill(token_ids, voice)
    slow_row, expected = slow.prefill(token_ids, voice)
    other_row, _ = fast.prefill((5, 6), toy.voice(2).gpt_latents)
    for step in range(60):
        assert torch.allclose(ours.logits[0], expected.logits[0], atol=2e-4, rtol=1e-4)
        assert torch.allclose(ours.latents[0], expected.latents[0], atol=5e-5, rtol=1e-4)
        token = (step * 37) % 1024
        ours = fast.step(
            [fast_row, other_row] if step % 2 else [fast_row], [token, 3][: 1 + step % 2]
        )
        expected = slow.step([slow_row], [token])


def test_a_cache_grows_and_keeps_what_it_holds() -> None:
    sizes: GptSizes = toy.toy_model().gpt.sizes
    cache = KvCache(sizes, torch.float32, torch.device("cpu"))
    assert cache.num_bytes == 0
    cache.reserve(100)
    small = cache.num_bytes
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(3, sizes.num_heads, 100, sizes.head_dim, generator=generator)
    for layer in range(sizes.num_layers):
        cache.attend_first(layer, first)
    cache.advance(100)
    cache.reserve(1)
    assert cache.num_bytes == small, "there is room in the block"
    for _ in range(60):
        cache.reserve(1)
        new = torch.randn(3, sizes.num_heads, 1, sizes.head_dim, generator=generator)
        for layer in range(sizes.num_layers):
            mixed = cache.attend_next(layer, new)
        cache.advance(1)
        first = torch.cat([first, new], dim=2)
    assert cache.num_bytes == 2 * small
    query, key, value = first
    scores = (query[:, -1:] @ key.transpose(1, 2)) * sizes.head_dim**-0.5
    expected = (scores.softmax(-1) @ value).reshape(-1)
    assert torch.allclose(mixed, expected, atol=1e-5)


@pytest.mark.parametrize("kind", [PackedLinear, PlainLinear])
def test_products_are_what_they_say(kind: type[Linear]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 40, generator=generator)
    bias = torch.randn(40, generator=generator)
    linear = kind(weight, bias)
    assert (linear.device, linear.dtype) == (weight.device, weight.dtype)
    for num_rows in (1, 2, 7):
        rows = torch.randn(num_rows, 96, generator=generator)
        expected = (rows.double() @ weight.double() + bias.double()).float()
        assert torch.allclose(linear.apply(rows), expected, atol=1e-4)


def test_other_types_and_devices_take_plain_products() -> None:
    weight = torch.zeros(8, 8)
    assert isinstance(make_linear(weight, weight[0]), PackedLinear)
    half = weight.bfloat16()
    assert isinstance(make_linear(half, half[0]), PlainLinear)
