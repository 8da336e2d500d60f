"""The GPT stage: text and conditioning to codes, and latents that carry the mel.

Knows the losses and the scores of the stage; the forward is `gpt_model`, the batches `gpt_batch`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from train.pretrain.gpt_batch import Row, RowSource
from train.pretrain.gpt_model import PackedBatch, PackedGpt
from train.pretrain.recipe import GptPart

#: The perceiver has no norm inside: at the full rate its output grew past float32 within 600 steps,
#: and its last norm then returned zeros for every speaker.
SLOW_PARTS = ("gpt.conditioning_encoder.", "gpt.conditioning_perceiver.")
#: Lengths of the conditioning stretch in frames: 2 to 4 s.
_STYLE_FRAMES = (172, 345)
_EVALUATION_ROWS = 16


class GptJob:
    """Trains the GPT on the rows of one source.

    Short clips first and guided attention teach a `fresh` GPT to read; one that can already needs
    neither.
    """

    def __init__(
        self, module: PackedGpt, source: RowSource, part: GptPart, seed: int, *, fresh: bool = True
    ) -> None:
        self.module = module
        self._source = source
        self._part = part
        self._seed = seed
        self._fresh = fresh

    def losses(self, step: int, process: int) -> dict[str, Tensor]:
        """Cross-entropy of the codes, distance of the drawn mel, guided attention."""
        batch = self._source.draw(step, process, short_first=self._fresh)
        rng = np.random.default_rng((self._seed, step, process, 1))
        prompt = self.module.prompt(self._source.style_mels(rng, int(rng.integers(*_STYLE_FRAMES))))
        if self._part.dropout:
            torch.manual_seed(int(rng.integers(2**63 - 1)))  # so that a resumed run drops the same
        guided = self._fresh and step < self._part.guide_steps
        latents, guide = self.module(batch, prompt, self._part.guide_width if guided else None)
        code = code_loss(self.module, batch, latents)
        mel = mel_loss(self.module, batch, latents)
        losses = {"code": code, "mel": mel, "prompt": prompt_spread(prompt.detach())}
        total = code + self._part.mel_weight * mel
        if guided:
            fade = 1 - step / self._part.guide_steps
            total = total + self._part.guide_weight * fade * guide
            losses["guide"] = guide
        return {"loss": total, **losses}

    def after_step(self, step: int) -> None:
        """Nothing to do."""

    def extra_state(self) -> dict[str, Any]:
        """Nothing beside the weights."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Nothing beside the weights."""


def prompt_spread(prompt: Tensor) -> Tensor:
    """Returns how far the speakers' conditioning latents are apart, against their size.

    Zero means that the model can't tell its speakers apart (or that there is only one).
    """
    size = prompt.norm(dim=(1, 2)).mean().clamp(min=1e-6)
    spread: Tensor = (prompt - prompt.mean(0)).norm(dim=(1, 2)).mean() / size
    return spread


def code_loss(module: PackedGpt, batch: PackedBatch, latents: Tensor) -> Tensor:
    """Returns the mean cross-entropy in nats over all codes and stops of a batch."""
    wanted = batch.targets >= 0
    logits = module.gpt.mel_head(latents[wanted]).float()
    return F.cross_entropy(logits, batch.targets[wanted])


def mel_loss(module: PackedGpt, batch: PackedBatch, latents: Tensor) -> Tensor:
    """Returns the mean distance of the drawn mel blocks, in normalised log-mel."""
    drawn: Tensor = module.mel_out(latents[batch.has_mel]).float()
    return F.l1_loss(drawn, batch.mels)


@torch.no_grad()
def text_gap(module: PackedGpt, source: RowSource, speaker: str, seed: int) -> tuple[float, float]:
    """Returns the held-out cross-entropy in nats with the right and with a wrong text."""
    module.eval()
    rows = [row for row in source.rows if row.clip.speaker == speaker]
    rows = rows[:: max(1, len(rows) // _EVALUATION_ROWS)][:_EVALUATION_ROWS]
    if not rows:
        return float("nan"), float("nan")
    rng = np.random.default_rng((seed, 2))
    prompt = module.prompt(source.style_mels(rng, _STYLE_FRAMES[1]))
    found = []
    for texts in (rows, rows[1:] + rows[:1]):
        mixed = [
            Row(row.clip, row.speaker, other.text, row.codes, row.aligned)
            for row, other in zip(rows, texts, strict=True)
        ]
        batch = source.pack(mixed, None, 0.0)
        latents, _ = module(batch, prompt)
        found.append(float(code_loss(module, batch, latents)))
    module.train()
    return found[0], found[1]
