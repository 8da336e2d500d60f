"""XTTS's GPT as it is trained: stock's weights under stock's names, rows without gaps.

A row is [32 conditioning latents | text | codes], padded at its end only. So attention is plainly
causal, needs no mask and runs on the fused kernels; stock pads between text and codes and masks
that. Tests hold the losses to those of coqui's `GPT.forward` on the same weights and clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from app.models.config import ModelConfig
from app.models.style_encoder import NUM_LATENTS, ConditioningEncoder, PerceiverResampler
from app.models.weights import State, check_shapes_or_raise, select, to_float32, unfilled
from train.fit.batch import FitBatch
from train.mels import NUM_MELS

PREFIX = "gpt."
#: The perceiver has no norm inside: at the full rate its output grew past float32 within 600 steps
#: of training from scratch, and its last norm then returned zeros for every speaker.
SLOW_PARTS = ("conditioning_encoder.", "conditioning_perceiver.")


@dataclass(frozen=True)
class RowLosses:
    """Cross-entropy in nats of each row, summed over its targets; each [B].

    `text_sum` and `mel_sum` carry the gradient of the whole batch; `rows` is [B, 2] without it.
    """

    text_sum: Tensor
    mel_sum: Tensor
    rows: Tensor


class FitGpt(nn.Module):
    """The part of an XTTS that fine-tuning changes.

    Args:
        sizes: of the tables and layers.
        dropout: chance with which an embedding or a layer's output is left out while training.
        checkpointing: computes each layer again on the way back instead of keeping it.
    """

    def __init__(self, sizes: GptSizes) -> None:
        super().__init__()
        width = sizes.width
        self.sizes = sizes
        self.dropout = 0.0
        self.checkpointing = False
        self.conditioning_encoder = ConditioningEncoder(NUM_MELS, width, sizes.heads)
        self.conditioning_perceiver = PerceiverResampler(width)
        self.text_embedding = nn.Embedding(sizes.num_text_tokens, width)
        self.mel_embedding = nn.Embedding(sizes.num_audio_tokens, width)
        self.gpt = _Layers(width, sizes.layers)
        self.mel_pos_embedding = _Positions(sizes.audio_positions, width)
        self.text_pos_embedding = _Positions(sizes.text_positions, width)
        self.final_norm = nn.LayerNorm(width)
        self.text_head = nn.Linear(width, sizes.num_text_tokens)
        self.mel_head = nn.Linear(width, sizes.num_audio_tokens)

    def forward(self, batch: FitBatch) -> RowLosses:
        """Returns the losses of a batch."""
        latents = self.latents(batch)[:, NUM_LATENTS:].flatten(0, 1)
        text = _cross_entropy(self.text_head(latents[batch.text_at]), batch.text_targets)
        mel = _cross_entropy(self.mel_head(latents[batch.mel_at]), batch.mel_targets)
        rows = torch.stack(
            (
                _sum_by_row(text, batch.text_rows, batch.num_rows),
                _sum_by_row(mel, batch.mel_rows, batch.num_rows),
            ),
            dim=1,
        )
        return RowLosses(text.sum(), mel.sum(), rows)

    def latents(self, batch: FitBatch) -> Tensor:
        """Returns what the heads read, [B, 32 + T, width]; the first 32 are of the voice."""
        prompt = self.conditioning_perceiver(
            self.conditioning_encoder(batch.style_mels).transpose(1, 2)
        )
        tokens = torch.cat((self.text_embedding.weight, self.mel_embedding.weight))
        places = torch.cat((self.text_pos_embedding.emb.weight, self.mel_pos_embedding.emb.weight))
        rows = F.embedding(batch.tokens, tokens) + F.embedding(batch.positions, places)
        hidden = self._drop(torch.cat((prompt.to(rows.dtype), rows), 1))
        for block in self.gpt.h:
            if self.checkpointing and self.training:
                hidden = checkpoint(
                    block, hidden, self.sizes.heads, self._drop, use_reentrant=False
                )
            else:
                hidden = block(hidden, self.sizes.heads, self._drop)
        latents: Tensor = self.final_norm(self.gpt.ln_f(hidden))
        return latents

    def _drop(self, hidden: Tensor) -> Tensor:
        return F.dropout(hidden, self.dropout, self.training) if self.dropout else hidden


@dataclass(frozen=True)
class GptSizes:
    """Sizes of a GPT; positions are rows of the position tables."""

    width: int
    heads: int
    layers: int
    num_text_tokens: int
    num_audio_tokens: int
    text_positions: int
    audio_positions: int


def load_network(state: State, config: ModelConfig, path: Path) -> FitGpt:
    """Returns the GPT of a model, in float32, in memory of its own.

    Args:
        state: all tensors of the model by stock name, mapped from its file.
        config: of the same model.
        path: of the file, for messages.

    Raises:
        ModelFileError: a tensor is missing, unknown or of another shape than the others say.
    """
    tensors = to_float32(select(state, PREFIX))
    with unfilled():
        network = FitGpt(sizes_of(tensors, config.gpt_heads, path))
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    check_shapes_or_raise(tensors, expected, path)
    owned = {name: value.clone() for name, value in tensors.items()}
    network.load_state_dict(owned, assign=True)
    return network


def sizes_of(tensors: Mapping[str, Tensor], heads: int, path: Path) -> GptSizes:
    """Reads the sizes off the tensors of a GPT.

    Raises:
        ModelFileError: a table is missing.
    """
    tables = ("text_embedding", "mel_embedding", "text_pos_embedding.emb", "mel_pos_embedding.emb")
    missing = {f"{t}.weight": (0,) for t in tables if f"{t}.weight" not in tensors}
    check_shapes_or_raise({}, missing, path)
    text, mel, text_places, mel_places = (tensors[f"{table}.weight"] for table in tables)
    return GptSizes(
        width=text.shape[1],
        heads=heads,
        layers=sum(name.endswith(".attn.c_attn.weight") for name in tensors),
        num_text_tokens=text.shape[0],
        num_audio_tokens=mel.shape[0],
        text_positions=text_places.shape[0],
        audio_positions=mel_places.shape[0],
    )


class Projection(nn.Module):
    """GPT-2's `Conv1D`: a linear layer whose weight is [in, out]."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width_in, width_out))
        self.bias = nn.Parameter(torch.empty(width_out))

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns [..., out] for [..., in]."""
        return F.linear(hidden, self.weight.T, self.bias)


class _Layers(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.h = nn.ModuleList(_Block(width) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)


class _Positions(nn.Module):
    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(places, width)


class _Block(nn.Module):
    """One layer of GPT-2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"c_attn": Projection(width, 3 * width), "c_proj": Projection(width, width)}
        )
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": Projection(width, 4 * width), "c_proj": Projection(4 * width, width)}
        )

    def forward(self, hidden: Tensor, heads: int, drop: Any) -> Tensor:
        rows, length, width = hidden.shape
        joined = self.attn["c_attn"](self.ln_1(hidden))
        shape = (rows, length, 3, heads, width // heads)
        query, key, value = joined.view(shape).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + drop(self.attn["c_proj"](mixed.transpose(1, 2).flatten(2)))
        inner = F.gelu(self.mlp["c_fc"](self.ln_2(hidden)), approximate="tanh")  # gelu_new
        out: Tensor = hidden + drop(self.mlp["c_proj"](inner))
        return out


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the loss of each target in nats, in float32 whatever the logits are in."""
    return F.cross_entropy(logits.float(), targets, reduction="none")


def _sum_by_row(losses: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    return losses.detach().new_zeros(num_rows).index_add_(0, rows, losses.detach())
