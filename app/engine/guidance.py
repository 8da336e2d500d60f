"""Guided sampling: a row is decoded twice, with its text and without, and what the text changes
is made to count for more.

The logits become `without + scale * (with - without)`: classifier-free guidance (Ho and Salimans
2022), for language models Sanchez et al. 2023 (arXiv 2306.17806). A model that half goes by the
sound so far then goes by the text. The latents are those of the row that knows the text. Knows
nothing of sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from app.engine.decoder import Decoder, StepOutput


class GuidedRow(NamedTuple):
    """The decoder's states of one row; without guidance only the first."""

    told: Any
    """Heard the voice and the text."""
    untold: Any | None
    """Heard the voice alone."""
    scale: float


class GuidedDecoder:
    """Decodes rows over `inner`, which holds a second one for each that is guided.

    Rows are as independent of each other as those of `inner`, and one with scale 1 is `inner`'s
    own, to the bit.
    """

    def __init__(self, inner: Decoder) -> None:
        self._inner = inner

    def prefill(
        self, token_ids: Sequence[int], gpt_latents: torch.Tensor, scale: float = 1.0
    ) -> tuple[GuidedRow, StepOutput]:
        """Starts a row; see `GptDecoder.prefill`.

        Args:
            token_ids: of the text.
            gpt_latents: the voice, [1, P, D].
            scale: 1 for no guidance.
        """
        told, output = self._inner.prefill(token_ids, gpt_latents)
        if scale == 1:
            return GuidedRow(told, None, scale), output
        untold, without = self._inner.prefill((), gpt_latents)
        logits = _guide(output.logits, without.logits, scale)
        return GuidedRow(told, untold, scale), StepOutput(logits, output.latents)

    @torch.inference_mode()
    def step(self, rows: Sequence[GuidedRow], tokens: Sequence[int]) -> StepOutput:
        """Puts one token into each of n rows; see `GptDecoder.step`."""
        guided = [place for place, row in enumerate(rows) if row.untold is not None]
        states = [row.told for row in rows] + [rows[place].untold for place in guided]
        output = self._inner.step(states, [*tokens, *(tokens[place] for place in guided)])
        logits, latents = output.logits[: len(rows)], output.latents[: len(rows)]
        for place, without in zip(guided, output.logits[len(rows) :], strict=True):
            logits[place] = _guide(logits[place], without, rows[place].scale)
        return StepOutput(logits, latents)


def _guide(told: torch.Tensor, untold: torch.Tensor, scale: float) -> torch.Tensor:
    return untold + scale * (told - untold)
