"""One row's prefill of fixed shapes: a plain function over tensors that stay where they are.

The text is padded to one of a few lengths, so that a few recordings serve all rows. Padding stands
behind the real positions, which in causal attention never see it. Like `static_step` it says
nothing to the host and knows nothing of recording, of rows or of who holds them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from app.engine.decoder import StepOutput, finish_layer, project_qkv, read_out
from app.engine.gpt_weights import NUM_SPECIAL, GptSizes, GptWeights

_NUM_NUMBERS = 2  # before the text in what `lay_out_prefix` gives: length and place


def lay_out_prefix(
    sizes: GptSizes, token_ids: Sequence[int], num_voice: int, num_padded: int, place: int
) -> torch.Tensor:
    """Returns what `run_prefill` is told of a row, [2 + T] int64 on the host.

    Args:
        sizes: of the model.
        token_ids: of the text, without start and stop.
        num_voice: positions of the voice.
        num_padded: T, positions behind the voice: at least those of the text and `NUM_SPECIAL`.
        place: of the row.
    """
    length = num_voice + len(token_ids) + NUM_SPECIAL
    text = [sizes.start_text_token, *token_ids, sizes.stop_text_token]
    padding = [sizes.stop_text_token] * (num_padded - len(text))
    return torch.tensor([length, place, *text, *padding])


def run_prefill(
    weights: GptWeights, kept: Sequence[torch.Tensor], inputs: torch.Tensor, voice: torch.Tensor
) -> StepOutput:
    """Fills one place with a prefix and returns what follows it.

    Behind the prefix the place is left with zeros, whatever was there before: masked positions are
    still multiplied with. For the same reason padding is zeroed before anybody attends to it. Run
    again with the same inputs it does the same again.

    Args:
        weights: the model.
        kept: keys and values of each layer, [2, places, heads, positions, head_dim], with at least
            as many positions as the padded prefix.
        inputs: [2 + T] int64 from `lay_out_prefix`.
        voice: [P, D] in the weights' format.

    Returns:
        The output after the prefix's last position, n = 1.
    """
    length, place, ids = inputs[:1], inputs[1:_NUM_NUMBERS], inputs[_NUM_NUMBERS:]
    last = length - 1
    hidden = _embed_padded(weights, ids, voice, last)
    num = len(hidden)
    is_padding = (torch.arange(num, device=inputs.device) > last)[:, None, None, None]
    for layer, cached in zip(weights.layers, kept, strict=True):
        qkv = project_qkv(hidden, layer, weights.sizes.num_heads).masked_fill_(is_padding, 0)
        qkv = qkv.permute(1, 2, 0, 3).unsqueeze(1)
        cached[:, :, :, :num].index_copy_(1, place, qkv[1:])
        cached[:, :, :, num:].index_fill_(1, place, 0)
        query, key, value = qkv
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = finish_layer(hidden, mixed[0].transpose(0, 1).reshape(num, -1), layer)
    return read_out(hidden.index_select(0, last), weights)


def _embed_padded(
    weights: GptWeights, ids: torch.Tensor, voice: torch.Tensor, last: torch.Tensor
) -> torch.Tensor:
    """Does what `embed_prefix` does, with the start of the audio at a place told by a tensor."""
    text = weights.text_embedding[ids] + weights.text_positions[: len(ids)]
    start = weights.audio_embedding[weights.sizes.start_audio_token] + weights.audio_positions[0]
    return torch.cat([voice, text]).index_copy_(0, last, start[None])
