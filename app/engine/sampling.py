"""Draws one audio token from a row's logits, as transformers' `generate` would.

The order is transformers' own (4.57, `_get_logits_processor`): repetition penalty, temperature,
top-k, top-p. Every row has its own random numbers; none are global. Knows nothing of decoding.
"""

from __future__ import annotations

import torch

from app.engine.gpt_weights import GptSizes
from app.engine.types import DecodeOptions
from app.errors import OutputError

# Stock hands `generate` a prefix of ones before the start token (gpt.py, `compute_embeddings`), so
# the repetition penalty takes audio token 1 for one that was drawn.
_PREFIX_TOKEN = 1


class RowSampler:
    """What drawing remembers of one row: the tokens so far and the row's random numbers."""

    def __init__(self, options: DecodeOptions, sizes: GptSizes) -> None:
        self._options = options
        self._generator = torch.Generator().manual_seed(options.seed)
        self._seen = torch.zeros(sizes.num_audio_tokens, dtype=torch.bool)
        self._seen[[_PREFIX_TOKEN, sizes.start_audio_token]] = True

    @torch.inference_mode()
    def draw(self, logits: torch.Tensor) -> int:
        """Returns the next token.

        Args:
            logits: [audio tokens] of one row, of any type, on any device.

        Raises:
            OutputError: a logit is NaN or infinite, so the model or its numbers are broken.
        """
        scores = logits.to("cpu", torch.float32)
        if not bool(torch.isfinite(scores).all()):
            raise OutputError("The model gave numbers that are none; check its files and device.")
        scores = penalise_seen(scores, self._seen, self._options.repetition_penalty)
        token = int(scores.argmax()) if self._options.greedy else self._draw_random(scores)
        self._seen[token] = True
        return token

    def _draw_random(self, scores: torch.Tensor) -> int:
        options = self._options
        if options.temperature != 1:
            scores = scores / options.temperature
        scores = keep_top_k(scores, options.top_k)
        scores = keep_top_p(scores, options.top_p)
        return int(torch.multinomial(scores.softmax(-1), 1, generator=self._generator))


def penalise_seen(scores: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    """Weakens the tokens marked in `seen`: negative scores times, others divided by `penalty`.

    Both tensors are [audio tokens] (Keskar et al. 2019, as transformers does it).
    """
    if penalty == 1:
        return scores
    weakened = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(seen, weakened, scores)


def keep_top_k(scores: torch.Tensor, top_k: int) -> torch.Tensor:
    """Rules out all scores below the k-th highest, so ties with it stay; 0 rules out none."""
    if top_k == 0:
        return scores
    lowest = scores.topk(min(top_k, len(scores))).values[-1]
    return scores.masked_fill(scores < lowest, -torch.inf)


def keep_top_p(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Rules out the unlikeliest tokens that hold `1 - top_p` of the probability, never all."""
    if top_p >= 1:
        return scores
    ordered, places = scores.sort()
    ruled_out = ordered.softmax(-1).cumsum(-1) <= 1 - top_p
    ruled_out[-1] = False
    return scores.masked_fill(torch.zeros_like(ruled_out).scatter(0, places, ruled_out), -torch.inf)
