"""The decoder for CUDA devices: all rows in one step of fixed shapes, replayed with one call.

Does what `GptDecoder` does there for any number of rows. The same rows in the same steps give the
same bits. A row in other company runs in another shape, for which the libraries may choose other
kernels: its numbers are then equal within rounding, not to the bit as on the CPU. Knows nothing of
sampling, text or sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F

from app.engine.batch_decoder import NUM_VOICE, longest_row
from app.engine.cache_pool import PooledRow
from app.engine.decoder import StepOutput, embed_prefix, finish_layer, project_qkv, read_out
from app.engine.gpt_weights import GptWeights
from app.engine.growing_cache import GrowingCache
from app.engine.static_step import run_step
from app.engine.step_graphs import CudaRecorder, Recorder, StepGraphs

#: Attention runs over as many positions as the longest row has, rounded up to one of these or to
#: the longest row there can be. A sentence of XTTS-v2 is some 300 positions long. A judgement: no
#: card was at hand to weigh the reading of masked positions against the number of recordings.
SPANS = (256, 384, 512, 768)
_ROUND_SPAN = 64  # keeps each head's keys on whole cache lines


class GraphDecoder:
    """Decodes rows over one model's weights; their caches live in its pool.

    Args:
        weights: the model, in a float format.
        max_rows: most rows at a time.
        num_voice: most positions that a voice takes (32 for XTTS-v2).
        spans: numbers of positions attention may run over, rising.
        recorder: records steps; left out, CUDA graphs do on a CUDA device, and elsewhere steps run
            as they are.
    """

    def __init__(
        self,
        weights: GptWeights,
        max_rows: int,
        *,
        num_voice: int = NUM_VOICE,
        spans: Sequence[int] = SPANS,
        recorder: Recorder | None = None,
    ) -> None:
        self._weights = weights
        device = weights.device
        most = -(-(longest_row(weights.sizes, num_voice) + 1) // _ROUND_SPAN) * _ROUND_SPAN
        spans = [*(span for span in spans if span < most), most]
        self._cache = GrowingCache(weights.sizes, max_rows, spans, weights.dtype, device)
        if recorder is None and device.type == "cuda":
            recorder = CudaRecorder(device)
        # a part of these two and not of `self`: in a circle, memory would wait for the collector
        self._run = partial(_run_over, weights, self._cache)
        self._graphs = StepGraphs(self._run, recorder, device) if recorder else None
        self._generation = self._cache.generation

    @property
    def cache_bytes(self) -> int:
        """Memory that the rows' keys and values hold."""
        return self._cache.used_bytes

    @property
    def num_graphs(self) -> int:
        """Shapes of steps that are replayed."""
        return len(self._graphs) if self._graphs else 0

    @torch.inference_mode()
    def prefill(
        self, token_ids: Sequence[int], gpt_latents: torch.Tensor
    ) -> tuple[PooledRow, StepOutput]:
        """Starts a row; see `GptDecoder.prefill`. The logits are float32 on the host."""
        weights = self._weights
        hidden = embed_prefix(weights, token_ids, gpt_latents)
        row = self._cache.open_row(len(hidden))
        for index, layer in enumerate(weights.layers):
            qkv = project_qkv(hidden, layer, weights.sizes.num_heads)
            self._cache.fill(row, index, qkv)
            query, key, value = qkv.permute(1, 2, 0, 3).unsqueeze(1)
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            mixed = mixed[0].transpose(0, 1).reshape(len(hidden), -1)
            hidden = finish_layer(hidden, mixed, layer)
        return row, _hand_out(read_out(hidden[-1:], weights), [0])

    @torch.inference_mode()
    def step(self, rows: Sequence[PooledRow], tokens: Sequence[int]) -> StepOutput:
        """Puts one token into each of n rows; see `GptDecoder.step`.

        The logits are float32 on the host: one copy, where drawing would ask for each row's.
        """
        lengths, span = self._cache.begin_step()
        live = [row.place for row in rows]
        columns = [[0, 0, length] for length in lengths]
        for row, token in zip(rows, tokens, strict=True):
            columns[row.place][:2] = token, row.num_audio
        inputs = torch.tensor(columns).t().contiguous()
        output = _hand_out(self._replay(inputs, span, live), live)
        for row in rows:
            row.length += 1
            row.num_audio += 1
        return output

    def _replay(self, inputs: torch.Tensor, span: int, live: list[int]) -> StepOutput:
        if self._graphs is None:
            return self._run(inputs.to(self._weights.device), span)
        if self._generation != self._cache.generation:
            self._graphs.clear()
            self._generation = self._cache.generation
        return self._graphs.run(inputs, span, live)


def _run_over(
    weights: GptWeights, cache: GrowingCache, inputs: torch.Tensor, span: int
) -> StepOutput:
    return run_step(weights, cache.layers, inputs, span)


def _hand_out(output: StepOutput, places: list[int]) -> StepOutput:
    """Copies the places' rows, in this order, out of what the next step writes over."""
    if places == list(range(len(places))):
        logits, latents = (part[: len(places)].clone() for part in output)
    else:
        index = torch.tensor(places, device=output.latents.device)
        logits, latents = (part[index] for part in output)
    return StepOutput(logits.to("cpu", torch.float32), latents)
