"""The sampler against transformers' own classes, and its randomness against itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from app.engine.sampling import RowSampler, keep_likeliest, penalise_seen
from app.engine.types import DecodeOptions
from app.errors import InputError, OutputError

START = 1024
NUM_TOKENS = 1026


def draw_many(options: DecodeOptions, num: int) -> list[int]:
    sampler = RowSampler(options, toy.toy_model().gpt.sizes)
    generator = torch.Generator().manual_seed(5)
    return [sampler.draw(torch.randn(NUM_TOKENS, generator=generator) * 3) for _ in range(num)]


@pytest.mark.parametrize(
    ("penalty", "temperature", "top_k", "top_p"),
    [
        (10.0, 0.75, 50, 0.85),
        (2.0, 0.65, 50, 0.8),
        (1.0, 1.0, 0, 1.0),
        (5.0, 1.7, 0, 0.3),
        (1.3, 0.2, 3, 1.0),
        (1.0, 1.0, 5000, 0.0),
    ],
)
def test_scores_are_transformers(
    penalty: float, temperature: float, top_k: int, top_p: float
) -> None:
    processors = LogitsProcessorList()
    if penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(penalty))
    if temperature != 1:
        processors.append(TemperatureLogitsWarper(temperature))
    if top_k != 0:
        processors.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        processors.append(TopPLogitsWarper(top_p))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        # coarse steps, so that there are ties
        scores = (torch.randn(NUM_TOKENS, generator=generator) * 12).round() / 4
        drawn = torch.randint(NUM_TOKENS, (30,), generator=generator)
        seen = drawn.unique().numpy()

        ours = scores.numpy().copy()
        penalise_seen(ours, seen, penalty)
        ours /= np.float32(temperature)
        tokens, weights = keep_likeliest(ours, top_k, top_p)

        theirs = processors(drawn[None], scores[None].clone())[0]
        expected = theirs.isfinite().nonzero()[:, 0].tolist()
        assert sorted(ours[tokens]) == sorted(theirs[expected].tolist())
        # which of equal ones stay at the border is open
        above = ours > ours[tokens[-1]]
        assert {t for t in tokens.tolist() if above[t]} == {t for t in expected if above[t]}
        shares = torch.from_numpy(weights / weights.sum())
        assert torch.allclose(
            shares, theirs[expected].sort(descending=True).values.double().softmax(0)
        )


def test_draws_follow_the_scores_that_transformers_leaves() -> None:
    """1000 draws of one distribution, whose share of each token is known."""
    scores = torch.full((NUM_TOKENS,), -10.0)
    scores[[7, 8, 9]] = torch.tensor([2.0, 1.0, 0.0])
    shares = torch.tensor([2.0, 1.0, 0.0]).softmax(0)
    options = DecodeOptions(temperature=1, top_k=3, top_p=1, repetition_penalty=1, seed=3)
    sampler = RowSampler(options, toy.toy_model().gpt.sizes)
    drawn = torch.tensor([sampler.draw(scores) for _ in range(1000)])
    for token, share in zip((7, 8, 9), shares.tolist(), strict=True):
        assert (drawn == token).float().mean().item() == pytest.approx(share, abs=0.05)


def test_token_one_and_start_count_as_drawn_from_the_beginning() -> None:
    scores = torch.zeros(NUM_TOKENS)
    scores[[1, START]] = 3.0
    scores[500] = 2.0
    options = DecodeOptions(greedy=True, repetition_penalty=2.0)
    sampler = RowSampler(options, toy.toy_model().gpt.sizes)
    assert sampler.draw(scores) == 500
    assert sampler.draw(scores) == 1, "now 500 is weakened as well"


def test_a_seed_gives_the_same_draws_and_another_seed_others() -> None:
    first = draw_many(DecodeOptions(seed=11), 40)
    torch.manual_seed(0)
    torch.rand(7)
    assert draw_many(DecodeOptions(seed=11), 40) == first
    assert draw_many(DecodeOptions(seed=12), 40) != first


def test_global_random_numbers_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    draw_many(DecodeOptions(seed=1), 5)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_numbers_are_an_error(value: float, greedy: bool) -> None:
    scores = torch.zeros(NUM_TOKENS)
    scores[3] = value
    with pytest.raises(OutputError):
        RowSampler(DecodeOptions(greedy=greedy), toy.toy_model().gpt.sizes).draw(scores)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 1.01),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("max_tokens", 0),
    ],
)
def test_options_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name) as caught:
        DecodeOptions(**{name: value})  # type: ignore[arg-type]
    assert caught.value.param == name


def test_extreme_options_still_draw() -> None:
    options = DecodeOptions(temperature=0.01, repetition_penalty=100, top_p=0, top_k=1)
    assert len(draw_many(options, 20)) == 20
    options = DecodeOptions(temperature=100, repetition_penalty=0.01, top_k=0, top_p=1)
    assert len(draw_many(options, 20)) == 20
