"""AdamW with 8-bit means goes where torch's AdamW goes, and keeps a quarter of the numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train.adamw_8bit import (
    AdamW8bit,
    narrow_mean,
    narrow_square,
    widen_mean,
    widen_square,
)
from train.optimizers import make_optimizer

BETAS = (0.9, 0.96)


def small_network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(40, 200), nn.GELU(), nn.Linear(200, 40))


def optimizer_of(network: nn.Module, kind: Any) -> torch.optim.Optimizer:
    return make_optimizer(network, rate=1e-3, betas=BETAS, weight_decay=0.01, kind=kind)


def learn(
    network: nn.Module, optimizer: torch.optim.Optimizer, steps: range, size: float = 1.0
) -> list[float]:
    """Learns a fixed function; each step's batch follows from its number."""
    wanted = torch.linspace(-1, 1, 1600).view(40, 40)
    losses = []
    for step in steps:
        inputs = torch.randn(32, 40, generator=torch.Generator().manual_seed(step))
        loss = (network(inputs) - torch.tanh(inputs @ wanted)).square().mean()
        optimizer.zero_grad()
        (size * loss).backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_it_learns_as_well_as_with_whole_numbers(size: float) -> None:
    whole, short = small_network(), small_network()
    plain = learn(whole, optimizer_of(whole, "adamw"), range(200), size)
    eight = learn(short, optimizer_of(short, "adamw8bit"), range(200), size)
    assert plain[0] == eight[0]
    last, last_8bit = sum(plain[-20:]) / 20, sum(eight[-20:]) / 20
    assert last < plain[0] / 3
    assert last_8bit == pytest.approx(last, rel=0.03)
    # and on the same way: what differs is small beside what was learnt
    start = small_network()
    for name, value in whole.named_parameters():
        moved = (value - start.get_parameter(name)).norm()
        assert (value - short.get_parameter(name)).norm() < 0.2 * moved, name


def test_short_tensors_are_whole_numbers_and_move_as_in_torch() -> None:
    whole, short = nn.Linear(8, 8), nn.Linear(8, 8)
    short.load_state_dict(whole.state_dict())
    one = torch.optim.AdamW(whole.parameters(), lr=1e-2, betas=BETAS, weight_decay=0.1)
    two = AdamW8bit(
        [{"params": list(short.parameters()), "weight_decay": 0.1}], lr=1e-2, betas=BETAS
    )
    for _ in range(5):
        for network, optimizer in ((whole, one), (short, two)):
            optimizer.zero_grad()
            network(torch.ones(2, 8)).square().sum().backward()
            optimizer.step()
    for left, right in zip(whole.parameters(), short.parameters(), strict=True):
        assert torch.allclose(left, right, rtol=1e-6, atol=1e-7)


def test_it_keeps_two_bytes_a_weight() -> None:
    network = nn.Linear(512, 512, bias=False)
    optimizer = optimizer_of(network, "adamw8bit")
    network(torch.ones(1, 512)).sum().backward()
    optimizer.step()
    held = sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
    assert held / network.weight.numel() == pytest.approx(2.03, abs=0.01)


def test_saved_and_read_again_it_goes_on_with_the_same_bits(tmp_path: Any) -> None:
    whole = small_network()
    optimizer = optimizer_of(whole, "adamw8bit")
    learn(whole, optimizer, range(10))

    first = small_network()
    optimizer = optimizer_of(first, "adamw8bit")
    learn(first, optimizer, range(4))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    second = small_network()
    second.load_state_dict(first.state_dict())
    resumed = optimizer_of(second, "adamw8bit")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    kept = {value.dtype for s in resumed.state.values() for k, value in s.items() if k == "mean"}
    assert kept == {torch.int8, torch.float32}
    learn(second, resumed, range(4, 10))
    for left, right in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(left, right)


def test_the_state_of_another_optimizer_is_refused() -> None:
    network = small_network()
    plain = optimizer_of(network, "adamw")
    learn(network, plain, range(1))
    with pytest.raises(ValueError, match="other numbers than AdamW in 8 bits"):
        optimizer_of(network, "adamw8bit").load_state_dict(plain.state_dict())


def test_what_is_narrowed_keeps_its_sign_and_size_over_seven_decades() -> None:
    sizes = torch.logspace(-7, 0, 256).view(1, 256)
    codes, scale = torch.zeros(1, 256, dtype=torch.uint8), torch.zeros(1, 1)
    narrow_square(sizes, codes, scale)
    back = widen_square(codes, scale)
    assert float(back.min()) > 0
    near = sizes > 1e-5
    assert float((back / sizes - 1).abs()[near].max()) < 0.15

    signed = sizes * torch.tensor([1.0, -1.0]).repeat(128)
    codes = torch.zeros(1, 256, dtype=torch.int8)
    narrow_mean(signed, codes, scale)
    back = widen_mean(codes, scale)
    assert bool(((back == 0) | (back.sign() == signed.sign())).all())
    near = sizes > 1e-2
    assert float((back / signed - 1).abs()[near].max()) < 0.1


def test_blocks_of_zeros_and_the_end_of_a_tensor_are_no_numbers_less() -> None:
    # a block that never had a gradient, and one that is not full
    weight = nn.Parameter(torch.ones(4096 + 300))
    optimizer = AdamW8bit([{"params": [weight]}], lr=0.1, betas=BETAS)
    for _ in range(3):
        weight.grad = torch.zeros_like(weight)
        weight.grad[4096:] = 1.0
        optimizer.step()
    assert bool(torch.isfinite(weight).all())
    assert torch.equal(weight[:4096], torch.ones(4096))
    # with a constant gradient each step of Adam is the rate
    assert torch.allclose(weight[4096:], torch.full((300,), 0.7), atol=0.01)
