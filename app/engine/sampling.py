"""Draws one audio token from a row's logits, as transformers' `generate` would.

The order is transformers' own (4.57, `_get_logits_processor`): repetition penalty, temperature,
top-k, top-p. Every row has its own random numbers; none are global. In numpy, for each operation of
torch costs more than the work on a thousand numbers does, and this runs for each row at each step.
Knows nothing of decoding.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from numpy.typing import NDArray

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
        self._random = random.Random(options.seed)  # noqa: S311 - chance, not secrets
        self._seen = {_PREFIX_TOKEN, sizes.start_audio_token}
        # without doubles, so that no score is weakened twice
        self._seen_places = np.empty(sizes.num_audio_tokens, dtype=np.intp)
        self._seen_places[: len(self._seen)] = sorted(self._seen)

    def draw(self, logits: torch.Tensor) -> int:
        """Returns the next token.

        Args:
            logits: [audio tokens] of one row, of any type, on any device.

        Raises:
            OutputError: a logit is NaN or infinite, so the model or its numbers are broken.
        """
        scores = np.array(logits.to("cpu", torch.float32).numpy())
        if not np.isfinite(scores).all():
            raise OutputError("The model gave numbers that are none; check its files and device.")
        seen = self._seen_places[: len(self._seen)]
        penalise_seen(scores, seen, self._options.repetition_penalty)
        token = int(scores.argmax()) if self._options.greedy else self._draw_random(scores)
        if token not in self._seen:
            self._seen_places[len(self._seen)] = token
            self._seen.add(token)
        return token

    def _draw_random(self, scores: NDArray[np.float32]) -> int:
        options = self._options
        if options.temperature != 1:
            scores /= np.float32(options.temperature)
        tokens, weights = keep_likeliest(scores, options.top_k, options.top_p)
        sums = weights.cumsum()
        place = int(sums.searchsorted(self._random.random() * sums[-1], side="right"))
        return int(tokens[min(place, len(tokens) - 1)])  # where the product was rounded up


def penalise_seen(scores: NDArray[np.float32], seen: NDArray[np.intp], penalty: float) -> None:
    """Weakens the tokens in `seen`: negative scores times, others divided by `penalty`.

    Args:
        scores: [audio tokens]; changed in place.
        seen: tokens, each once (Keskar et al. 2019, as transformers does it).
        penalty: 1 leaves the scores as they are.
    """
    if penalty == 1:
        return
    old, by = scores[seen], np.float32(penalty)
    scores[seen] = np.where(old < 0, old * by, old / by)


def keep_likeliest(
    scores: NDArray[np.float32], top_k: int, top_p: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Returns the tokens that may be drawn, likeliest first, and their weights.

    Top-k keeps the k highest scores, and ties with the k-th. Top-p then leaves out the unlikeliest
    that together hold `1 - top_p` of what is left, never the likeliest; of equal ones those with
    the larger numbers go first.

    Args:
        scores: [audio tokens].
        top_k: 0 keeps all.
        top_p: 1 keeps all.

    Returns:
        Tokens [K], and numbers proportional to their probabilities, [K].
    """
    if 0 < top_k < len(scores):
        tokens = np.flatnonzero(scores >= np.partition(scores, -top_k)[-top_k])
    else:
        tokens = np.arange(len(scores))
    tokens = tokens[np.argsort(-scores[tokens], kind="stable")]
    kept = scores[tokens].astype(np.float64)
    weights = np.exp(kept - kept[0])
    if top_p < 1:
        sums = weights.cumsum()
        # a token stays while those before it hold less than top_p
        num = 1 + int(sums[:-1].searchsorted(top_p * sums[-1]))
        tokens, weights = tokens[:num], weights[:num]
    return tokens, weights
