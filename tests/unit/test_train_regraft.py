"""A decoder whose GPT went on learning hears its latents as it used to."""

from __future__ import annotations

import torch

from train.pretrain.recipe import DecoderPart
from train.pretrain.regraft import regraft, solve_map
from train.pretrain.vocoder import build_generator, stretch

WIDTH = 6
PART = DecoderPart(initial_channels=16, kernels=[3], dilations=[[1, 2]])


def test_latents_that_moved_by_an_affine_map_sound_the_same() -> None:
    torch.manual_seed(0)
    generator = build_generator(PART, WIDTH).eval()
    old = torch.randn(400, WIDTH)
    new = old @ (torch.eye(WIDTH) + 0.1 * torch.randn(WIDTH, WIDTH)) + torch.randn(WIDTH)

    def first_layer(latents: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            heard: torch.Tensor = generator.conv_pre(stretch(latents[:40].T[None], 2))
        return heard[..., 4:-4]  # the ends are padded with zeros, which no map moves

    wanted = first_layer(old)
    foreign = first_layer(new)
    regraft(generator, *solve_map(new, old))
    error = (first_layer(new) - wanted).abs().max()
    assert error < 0.02 * (foreign - wanted).abs().max()


def test_the_map_of_latents_that_did_not_move_is_nearly_none() -> None:
    torch.manual_seed(1)
    rows = torch.randn(500, WIDTH)
    matrix, offset = solve_map(rows, rows)
    assert torch.allclose(matrix, torch.eye(WIDTH), atol=2e-3)
    assert torch.allclose(offset, torch.zeros(WIDTH), atol=2e-3)
