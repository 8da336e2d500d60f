"""The network that turns a reference mel into the GPT's conditioning latents.

A convolution, six attention blocks over time, and a perceiver that sums the result up in 32
latents. Parameter names are stock's (`ConditioningEncoder`, `PerceiverResampler` in coqui-tts
0.28), so weights load unchanged. Knows no audio.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_LATENTS = 32

_ATTENTION_BLOCKS = 6
_PERCEIVER_LAYERS = 2
_PERCEIVER_HEADS = 8
_PERCEIVER_HEAD_DIM = 64
_FEED_FORWARD_FACTOR = 4


class StyleEncoder(nn.Module):
    """Reference mel [B, num_mels, frames] -> conditioning latents [B, 32, width]."""

    def __init__(self, num_mels: int, width: int, heads: int) -> None:
        super().__init__()
        self.conditioning_encoder = ConditioningEncoder(num_mels, width, heads)
        self.conditioning_perceiver = PerceiverResampler(width)

    def forward(self, mel: Tensor) -> Tensor:
        """Returns [B, 32, width] for a mel [B, num_mels, frames]."""
        hidden: Tensor = self.conditioning_encoder(mel)
        latents: Tensor = self.conditioning_perceiver(hidden.transpose(1, 2))
        return latents


class ConditioningEncoder(nn.Module):
    """[B, num_mels, frames] -> [B, width, frames]."""

    def __init__(self, num_mels: int, width: int, heads: int) -> None:
        super().__init__()
        self.init = nn.Conv1d(num_mels, width, 1)
        self.attn = nn.Sequential(*(AttentionBlock(width, heads) for _ in range(_ATTENTION_BLOCKS)))

    def forward(self, mel: Tensor) -> Tensor:
        """Returns [B, width, frames]."""
        hidden: Tensor = self.attn(self.init(mel))
        return hidden


class AttentionBlock(nn.Module):
    """Self-attention over time; the residual is the normalised input, as in stock XTTS."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_num_groups(width), width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns [B, width, frames] for the same shape."""
        batch, width, frames = hidden.shape
        normed: Tensor = self.norm(hidden)
        # each head's q, k and v lie together: [B, heads, 3 * d, frames]
        per_head = self.qkv(normed).reshape(batch, self.heads, -1, frames).transpose(2, 3)
        query, key, value = per_head.chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(2, 3).reshape(batch, width, frames)
        out: Tensor = self.proj_out(mixed)
        return normed + out


class PerceiverResampler(nn.Module):
    """[B, frames, width] -> [B, 32, width], by learned latents that attend to the frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(NUM_LATENTS, width))
        self.layers = nn.ModuleList(
            nn.ModuleList((CrossAttention(width), _feed_forward(width)))
            for _ in range(_PERCEIVER_LAYERS)
        )
        self.norm = RMSNorm(width)

    def forward(self, frames: Tensor) -> Tensor:
        """Returns [B, 32, width]."""
        latents = self.latents.expand(frames.shape[0], -1, -1)
        for layer in self.layers:
            attend, feed_forward = layer.children()
            latents = attend(latents, frames) + latents
            latents = feed_forward(latents) + latents
        out: Tensor = self.norm(latents)
        return out


class CrossAttention(nn.Module):
    """Latents attend to themselves and to the frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = _PERCEIVER_HEADS * _PERCEIVER_HEAD_DIM
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Returns [B, latents, width]."""
        key, value = self.to_kv(torch.cat((latents, frames), dim=1)).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            _split_heads(self.to_q(latents)), _split_heads(key), _split_heads(value)
        )
        out: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return out


class GatedGelu(nn.Module):
    """Halves the last dimension: values times gelu(gates)."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns [..., n] for [..., 2 * n]."""
        values, gates = hidden.chunk(2, dim=-1)
        return values * F.gelu(gates)


class RMSNorm(nn.Module):
    """Scales each row to length sqrt(width), then by `gamma`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = width**0.5
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns the same shape."""
        unit: Tensor = F.normalize(hidden, dim=-1)
        scaled: Tensor = unit * self.scale * self.gamma
        return scaled


def _feed_forward(width: int) -> nn.Sequential:
    inner = int(width * _FEED_FORWARD_FACTOR * 2 / 3)
    return nn.Sequential(nn.Linear(width, 2 * inner), GatedGelu(), nn.Linear(inner, width))


def _split_heads(rows: Tensor) -> Tensor:
    batch, length, _ = rows.shape
    return rows.view(batch, length, _PERCEIVER_HEADS, _PERCEIVER_HEAD_DIM).transpose(1, 2)


def _num_groups(channels: int) -> int:
    """Groups of stock's norm (`normalization` in TTS/tts/layers/tortoise/arch_utils.py)."""
    groups = 8 if channels <= 16 else 16 if channels <= 64 else 32
    while channels % groups:
        groups //= 2
    return groups
