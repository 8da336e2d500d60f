"""A fast training forward over stock XTTS GPT weights.

The module that is trained and saved is coqui's `GPT`; this one runs it on rows packed as
[text | codes] with padding only at the end, and computes the 32 conditioning positions once per
speaker: they come first and attention is causal, so every row of a speaker can share their keys
and values. A test holds it to coqui's own forward. Dropout falls on what each block adds, and not
on attention or on the shared conditioning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from TTS.tts.layers.xtts.gpt import GPT

from train.mels import NUM_MELS
from train.pretrain.recipe import CodesPart, GptPart
from train.pretrain.vocabulary import START, STOP

#: Layers and heads that guided attention teaches, as measured best.
_GUIDED_LAYERS = (1, 2, 3)
_GUIDED_HEADS = 2
_NO_SCORE = -1e4


@dataclass(frozen=True)
class PackedBatch:
    """Rows of [START text STOP | start codes ...], padded at the end.

    Shapes: B rows, T positions. Codes are stored as `num_text_tokens + code`.
    """

    tokens: Tensor
    """[B, T] into the joined embedding table."""
    positions: Tensor
    """[B, T] into the joined position table."""
    speakers: Tensor
    """[B] row of the conditioning batch."""
    targets: Tensor
    """[B, T] next code where a code is to be predicted, else -100."""
    mels: Tensor
    """[N, 80 * frames per code] for each position whose input is a code, row by row."""
    has_mel: Tensor
    """[B, T] bool: the positions of `mels`."""
    aligned: Tensor
    """[B, T] text position spoken at a predicted code, or -1 where unknown."""
    text_lengths: Tensor
    """[B] positions of text."""


def build_gpt(part: GptPart, codes: CodesPart, num_text_tokens: int) -> GPT:
    """Returns an untrained stock GPT of the recipe's sizes, positions started as sinusoids."""
    gpt = GPT(
        start_text_token=START,
        stop_text_token=STOP,
        layers=part.layers,
        model_dim=part.width,
        heads=part.heads,
        max_text_tokens=part.max_text_tokens,
        max_mel_tokens=part.max_audio_tokens,
        max_prompt_tokens=70,
        code_stride_len=codes.stride,
        number_text_tokens=num_text_tokens,
        num_audio_tokens=codes.num_codes + 2,
        start_audio_token=codes.num_codes,
        stop_audio_token=codes.num_codes + 1,
        use_perceiver_resampler=True,
    )
    with torch.no_grad():
        for table in (gpt.text_pos_embedding.emb.weight, gpt.mel_pos_embedding.emb.weight):
            table.copy_(_sinusoids(*table.shape) * 0.1)
        for table in (gpt.text_embedding.weight, gpt.mel_embedding.weight):
            table.normal_(0, 0.1)
    return gpt


def _sinusoids(rows: int, width: int) -> Tensor:
    places = torch.arange(rows)[:, None]
    rates = torch.exp(-torch.arange(0, width, 2) / width * torch.log(torch.tensor(1000.0)))
    angles = places * rates
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)


class PackedGpt(nn.Module):
    """Stock GPT weights, a packed forward, and a head that draws the mel of each code.

    The mel head is for training only: it makes the latents carry what the decoder needs.
    """

    def __init__(self, gpt: GPT, frames_per_code: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.gpt = gpt
        self._dropout = dropout
        self.mel_out = nn.Linear(gpt.model_dim, NUM_MELS * frames_per_code)

    def prompt(self, mels: Tensor) -> Tensor:
        """Returns the 32 conditioning latents [S, 32, D] of style mels [S, 80, frames]."""
        prompt: Tensor = self.gpt.get_style_emb(mels).transpose(1, 2)
        return prompt

    def forward(
        self, batch: PackedBatch, prompt: Tensor, guide_width: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the latents [B, T, D] and the guided attention loss (0 without a width)."""
        gpt = self.gpt
        table = torch.cat((gpt.text_embedding.weight, gpt.mel_embedding.weight))
        places = torch.cat((gpt.text_pos_embedding.emb.weight, gpt.mel_pos_embedding.emb.weight))
        hidden = F.embedding(batch.tokens, table) + F.embedding(batch.positions, places)
        length, before = hidden.shape[1], prompt.shape[1]
        mask = torch.full((length, before + length), _NO_SCORE, device=hidden.device)
        mask = mask.triu(before + 1)
        guide = hidden.new_zeros(())
        band = _guide_band(batch, guide_width) if guide_width is not None else None
        for i, block in enumerate(gpt.gpt.h):
            prompt_query, prompt_key, prompt_value = _project(block, prompt, gpt.heads)
            query, key, value = _project(block, hidden, gpt.heads)
            key = torch.cat((prompt_key[batch.speakers], key), 2)
            value = torch.cat((prompt_value[batch.speakers], value), 2)
            scores = _scores(query, key, mask)
            if band is not None and i in _GUIDED_LAYERS:
                guide = guide + _guide_loss(scores, band, before)
            drop = self._dropout if self.training else 0.0
            mixed = scores.softmax(-1).to(value.dtype) @ value
            hidden = _finish(block, hidden, mixed, drop)
            if i + 1 < gpt.layers:
                mixed = F.scaled_dot_product_attention(
                    prompt_query, prompt_key, prompt_value, is_causal=True
                )
                prompt = _finish(block, prompt, mixed)
        latents: Tensor = gpt.final_norm(gpt.gpt.ln_f(hidden))
        return latents, guide / len(_GUIDED_LAYERS)


def _project(block: Any, hidden: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    rows, length, width = hidden.shape
    layer = block.attn.c_attn  # GPT-2's Conv1D: weight [in, out]
    joined = F.linear(block.ln_1(hidden), layer.weight.T, layer.bias)
    query, key, value = joined.view(rows, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    return query, key, value


def _finish(block: Any, hidden: Tensor, mixed: Tensor, drop: float = 0.0) -> Tensor:
    joined = mixed.transpose(1, 2).flatten(2)
    attn, mlp = block.attn.c_proj, block.mlp
    hidden = hidden + F.dropout(F.linear(joined, attn.weight.T, attn.bias), drop)
    inner = F.linear(block.ln_2(hidden), mlp.c_fc.weight.T, mlp.c_fc.bias)
    inner = F.gelu(inner, approximate="tanh")  # GPT-2's gelu_new
    return hidden + F.dropout(F.linear(inner, mlp.c_proj.weight.T, mlp.c_proj.bias), drop)


def _guide_band(batch: PackedBatch, width: float) -> tuple[Tensor, Tensor]:
    """Returns which text positions each predicted code may look at, and where that is known."""
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    near = (columns - batch.aligned[..., None]).abs() <= width
    in_text = columns < batch.text_lengths[:, None]
    return near & in_text[:, None], batch.aligned >= 0


def _scores(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """Returns masked attention scores; by hand, as torch's CPU kernel is slow on the way back."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
    masked: Tensor = scores + mask.to(scores.dtype)
    return masked


def _guide_loss(scores: Tensor, band: tuple[Tensor, Tensor], before: int) -> Tensor:
    """Returns -log of the attention mass inside the band, over the first heads."""
    allowed, known = band
    scores = scores[:, :_GUIDED_HEADS].float()
    # A finite fill: a row with an empty band must not turn into NaN on the way back.
    inside = scores[..., before:].masked_fill(~allowed[:, None], _NO_SCORE)
    log_mass = inside.logsumexp(-1) - scores.logsumexp(-1)
    picked = log_mass.transpose(1, 2)[known]
    return -picked.clamp(min=-20).mean() if picked.numel() else scores.new_zeros(())
