"""The decoder for CUDA devices: steps and prefills of fixed shapes, replayed with one call each.

Does what `GptDecoder` does there for any number of rows. The same rows in the same steps give the
same bits. A row in other company runs in another shape, for which the libraries may choose other
kernels: its numbers are then equal within rounding, not to the bit as on the CPU. Knows nothing of
sampling, text or sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from app.engine.batch_decoder import NUM_VOICE, longest_row
from app.engine.cache_pool import PooledRow
from app.engine.decoder import StepOutput
from app.engine.gpt_weights import NUM_SPECIAL, GptWeights
from app.engine.growing_cache import GrowingCache
from app.engine.run_graphs import CudaRecorder, Recorder, RunGraphs, StaticRun, do_plainly, send
from app.engine.static_prefill import lay_out_prefix, run_prefill
from app.engine.static_step import run_step

#: Attention runs over as many positions as the longest row has, rounded up to one of these or to
#: the longest row there can be. A sentence of XTTS-v2 is some 300 positions long. A judgement: no
#: card was at hand to weigh the reading of masked positions against the number of recordings.
SPANS = (256, 384, 512, 768)
#: A text with its start, its stop and the start of the audio is padded to one of these or to the
#: longest there can be: 64, 96, 128, 192, 256, 384 or 436 positions with XTTS-v2's voice of 32. A
#: judgement, like the spans. For n positions a card does n operations with each byte of bfloat16
#: weights; an H100 can do 295 while it reads one (989 TFLOPS over 3.35 TB/s, NVIDIA's data sheet),
#: so up to there padding costs little.
TEXTS = (32, 64, 96, 160, 224, 352)
_ROUND_SPAN = 64  # keeps each head's keys on whole cache lines


class GraphDecoder:
    """Decodes rows over one model's weights; their caches live in its pool.

    Args:
        weights: the model, in a float format.
        max_rows: most rows at a time.
        num_voice: most positions that a voice takes (32 for XTTS-v2).
        spans: numbers of positions attention may run over, rising.
        texts: numbers of positions behind the voice that a prefill may have, rising.
        recorder: records runs; left out, CUDA graphs do on a CUDA device, and elsewhere runs are
            done as they are.
    """

    def __init__(
        self,
        weights: GptWeights,
        max_rows: int,
        *,
        num_voice: int = NUM_VOICE,
        spans: Sequence[int] = SPANS,
        texts: Sequence[int] = TEXTS,
        recorder: Recorder | None = None,
    ) -> None:
        self._weights = weights
        device = weights.device
        most = -(-(longest_row(weights.sizes, num_voice) + 1) // _ROUND_SPAN) * _ROUND_SPAN
        spans = [*(span for span in spans if span < most), most]
        self._cache = GrowingCache(weights.sizes, max_rows, spans, weights.dtype, device)
        longest_text = weights.sizes.max_text_tokens + NUM_SPECIAL
        self._texts = [*(text for text in texts if text < longest_text), longest_text]
        if recorder is None and device.type == "cuda":
            recorder = CudaRecorder(device)
        self._graphs = RunGraphs(recorder, device) if recorder else None
        self._generation = self._cache.generation

    @property
    def cache_bytes(self) -> int:
        """Memory that the rows' keys and values hold."""
        return self._cache.used_bytes

    @property
    def num_graphs(self) -> int:
        """Shapes of steps and prefills that are replayed."""
        return len(self._graphs) if self._graphs else 0

    @torch.inference_mode()
    def prefill(
        self, token_ids: Sequence[int], gpt_latents: torch.Tensor
    ) -> tuple[PooledRow, StepOutput]:
        """Starts a row; see `GptDecoder.prefill`. The logits are float32 on the host."""
        weights, cache = self._weights, self._cache
        voice = gpt_latents[0].to(weights.dtype)
        num_text = len(token_ids) + NUM_SPECIAL
        num_padded = next(text for text in self._texts if text >= num_text)
        num_kept = len(voice) + num_padded
        row = cache.open_row(len(voice) + num_text, num_kept)
        inputs = lay_out_prefix(weights.sizes, token_ids, len(voice), num_padded, row.place)

        def decoys() -> tuple[torch.Tensor, torch.Tensor]:
            other = lay_out_prefix(weights.sizes, (), len(voice), num_padded, row.place)
            return other, torch.zeros_like(voice)

        run = StaticRun(
            kind="prefill",
            shape=(len(voice), num_padded),
            function=partial(run_prefill, weights, cache.layers),
            inputs=(inputs, voice),
            decoys=decoys,
            places=[0],
            written=lambda: [layer[:, row.place, :, :num_kept] for layer in cache.layers],
            zeroed=lambda: [
                layer[:, row.place, :, num_kept:]
                for layer in cache.layers
                if layer.shape[3] > num_kept
            ],
        )
        return row, _hand_out(self._do(run), run.places)

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
        run = StaticRun(
            kind="step",
            shape=(len(lengths), span),
            function=partial(run_step, self._weights, self._cache.layers, span=span),
            inputs=(inputs,),
            # a step writes to the rows' next positions, which the right one will write over
            decoys=lambda: (torch.cat([torch.zeros_like(inputs[:2]), inputs[2:]]),),
            places=live,
        )
        output = _hand_out(self._do(run), live)
        for row in rows:
            row.length += 1
            row.num_audio += 1
        return output

    def _do(self, run: StaticRun) -> StepOutput:
        if self._graphs is None:
            return do_plainly(run, self._weights.device)
        if self._generation != self._cache.generation:
            self._graphs.clear()
            self._generation = self._cache.generation
        return self._graphs.do(run)


def _hand_out(output: StepOutput, places: Sequence[int]) -> StepOutput:
    """Copies the places' rows, in this order, out of what the next run writes over."""
    if places == list(range(len(places))):
        logits, latents = (part[: len(places)].clone() for part in output)
    else:
        index = send(torch.tensor(places), output.latents.device)
        logits, latents = (part[index] for part in output)
    return StepOutput(logits.to("cpu", torch.float32), latents)
