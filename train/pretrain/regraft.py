"""A trained decoder for a GPT that went on learning: its latents, put back where they were.

While a GPT learns, its latents move, and a decoder that was trained on the old ones hears a
slightly foreign language. A part of the move is linear: a map from new to old latents, fitted on
clips that both GPTs heard, is folded into the decoder's first convolution, as `vocoder.graft` does.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor
from TTS.vocoder.models.hifigan_generator import HifiganGenerator

from train.pretrain.gpt_batch import Row, RowSource
from train.pretrain.gpt_model import PackedGpt

_STYLE_FRAMES = 345  # 4 s, as the latents of the decoder stage
_ROWS_PER_BATCH = 8
_RIDGE = 1e-3
_log = logging.getLogger(__name__)


@torch.no_grad()
def fit_latent_map(
    new: tuple[PackedGpt, list[Row]],
    old: tuple[PackedGpt, list[Row]],
    source: RowSource,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Returns matrix [D, D] and offset [D] that turn latents of `new` into those of `old`.

    Each GPT comes with its rows of the same clips, which differ where the codes went on too.
    """
    moved: list[Tensor] = []
    wanted: list[Tensor] = []
    for start in range(0, len(new[1]), _ROWS_PER_BATCH):
        style = source.style_mels(np.random.default_rng((seed, start)), _STYLE_FRAMES)
        for (module, rows), found in ((new, moved), (old, wanted)):
            module.eval()
            part = rows[start : start + _ROWS_PER_BATCH]
            latents, _ = module(source.pack(part, None, 0.0), module.prompt(style))
            spans = [(len(row.text), row.length) for row in part]
            found += [latents[i, a:b].float() for i, (a, b) in enumerate(spans)]
    return solve_map(torch.cat(moved), torch.cat(wanted))


def solve_map(moved: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Returns matrix and offset of the best affine map between rows [n, D], by ridge regression."""
    centre, target = moved.mean(0), wanted.mean(0)
    left, right = (moved - centre).double(), (wanted - target).double()
    gram = left.T @ left
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    matrix = torch.linalg.solve(gram, left.T @ right).float()
    offset = target - centre @ matrix
    variance = float((wanted - target).square().mean())
    if variance:
        before, after = (
            float((rows - wanted).square().mean()) / variance
            for rows in (moved, moved @ matrix + offset)
        )
        _log.info("latents moved by %.3f of their variance, %.3f after the map", before, after)
    return matrix, offset


@torch.no_grad()
def regraft(generator: HifiganGenerator, matrix: Tensor, offset: Tensor) -> None:
    """Folds a map of latents into a generator's first convolution (exact but for edges)."""
    first = generator.conv_pre
    weight = first.weight.clone()
    first.weight.copy_(torch.einsum("cok,no->cnk", weight, matrix))
    first.bias.add_(weight.sum(2) @ offset)
