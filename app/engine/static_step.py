"""One decode step of fixed shapes: a plain function over tensors that stay where they are.

The same operations on the same addresses whatever the rows are, without a word from the host: that
is what can be recorded once and replayed. Runs on any device. Knows nothing of recording, of rows
or of who holds them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from app.engine.decoder import StepOutput, finish_layer, project_qkv, read_out
from app.engine.gpt_weights import GptWeights


def run_step(
    weights: GptWeights, kept: Sequence[torch.Tensor], inputs: torch.Tensor, span: int
) -> StepOutput:
    """Puts one token into each of the first n places and returns what follows.

    A place that nobody holds takes part with length 0: its only position is overwritten and it
    attends to that one, so it has numbers like any other. Run again with the same inputs it does
    the same again, for a step writes nothing but its own position.

    Args:
        weights: the model.
        kept: keys and values of each layer, [2, places, heads, positions, head_dim].
        inputs: [3, n] int64: tokens, their audio positions, and the places' lengths.
        span: how many positions are looked at; more than the longest length.

    Returns:
        The output of each place, n rows.
    """
    tokens, audio_positions, lengths = inputs.unbind(0)
    num = inputs.shape[1]
    places = torch.arange(num, device=inputs.device)
    hidden = weights.audio_embedding[tokens] + weights.audio_positions[audio_positions]
    future = torch.arange(span, device=inputs.device) > lengths[:, None]
    mask = hidden.new_zeros(num, span).masked_fill_(future, -torch.inf)[:, None, None]
    for layer, cached in zip(weights.layers, kept, strict=True):
        qkv = project_qkv(hidden, layer, weights.sizes.num_heads)
        cached[:, places, :, lengths] = qkv[:, 1:]
        keys, values = cached[:, :num, :, :span].unbind(0)
        query = qkv[:, 0].unsqueeze(2)
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        hidden = finish_layer(hidden, mixed.reshape(num, -1), layer)
    return read_out(hidden, weights)
