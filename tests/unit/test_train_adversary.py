"""The decoder's adversary learns, reaches the decoder alone, and resumes."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from train.decoder.adversary import Adversary
from train.decoder.discriminators import Discriminators

SAMPLES = 4096


def tones(seed: int) -> Tensor:
    """Returns three tones [3, samples]: the true speech of these tests."""
    generator = torch.Generator().manual_seed(seed)
    hertz = 200 + 400 * torch.rand(3, 1, generator=generator)
    return 0.4 * torch.sin(2 * torch.pi * hertz * torch.arange(SAMPLES) / 24000)


def hiss(seed: int) -> Tensor:
    """Returns three rows of noise [3, samples]: what a bad decoder makes."""
    return 0.2 * torch.randn(3, SAMPLES, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def adversary() -> Adversary:
    return Adversary(Accelerator(cpu=True), seed=1, channels=4, rate=2e-3)


def test_it_learns_to_tell_noise_from_tones(adversary: Adversary) -> None:
    first = float(adversary.teach(hiss(0), tones(0)))
    for step in range(1, 25):
        last = float(adversary.teach(hiss(step), tones(step)))
    assert last < 0.6 * first
    unseen = adversary.judge(hiss(99), tones(99))
    fair = adversary.judge(tones(98), tones(99))
    assert unseen["fooling"] > fair["fooling"]
    assert unseen["features"] > fair["features"]


def test_its_gradients_reach_the_decoder_and_not_the_discriminators(adversary: Adversary) -> None:
    made = hiss(0).requires_grad_()
    adversary.judge(made, tones(0))["adversary"].backward()
    assert made.grad is not None
    assert made.grad.abs().sum() > 0
    before = deepcopy(adversary.state()["discriminators"])
    adversary.teach(hiss(1), tones(1))  # and they still learn afterwards
    after = adversary.state()["discriminators"]
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_a_resumed_adversary_judges_and_learns_as_the_unbroken_one(adversary: Adversary) -> None:
    adversary.teach(hiss(0), tones(0))
    other = Adversary(Accelerator(cpu=True), seed=2, channels=4, rate=2e-3)
    other.load_state(deepcopy(adversary.state()))
    for both in (0, 1):
        losses = [float(one.teach(hiss(both), tones(both))) for one in (adversary, other)]
        assert losses[0] == losses[1]


def test_every_discriminator_takes_any_length() -> None:
    networks = Discriminators(4)
    for length in (2049, 4096, 5003):
        found = networks(torch.randn(2, length))
        assert len(found) == 8
        assert all(len(maps) == 4 and torch.isfinite(maps[-1]).all() for maps in found)
