"""GPT latents of prepared clips by teacher forcing: what the decoder gets when the clip is spoken.

Each clip's codes go through the GPT with its text and, as voice, the stretch of the clip that `fit`
judges by: once its own, and once with a share of them drawn by the GPT (`train.decoder.drawn`). The
latents are what stock coqui-tts computes of drawn codes before it decodes them (`GPT.forward`
with `return_latent=True`; tests hold the two together): latent k has heard the codes before k, and
the last one has heard all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.models.style_encoder import NUM_LATENTS
from train.data.batches import plan_epoch
from train.data.prepared import PreparedClip, PreparedClips
from train.decoder.drawn import mix_drawn
from train.decoder.job import FloatArray
from train.fit.batch import FitBatch, Layout, Row, collate, fixed_rows
from train.fit.network import FitGpt

#: Together with a clip's place, of what is drawn for it.
_SEED = 17


@dataclass(frozen=True)
class ClipLatents:
    """What the GPT makes of a clip.

    Attributes:
        true: [codes + 1, width], of the clip's own codes.
        codes: [codes], the clip's own but for those that the GPT drew.
        drawn: [codes + 1, width], of `codes`.
    """

    clip: PreparedClip
    true: FloatArray
    codes: npt.NDArray[np.int64]
    drawn: FloatArray


@torch.no_grad()
def clip_latents(
    network: FitGpt, clips: PreparedClips, stats: Tensor, layout: Layout, max_positions: int
) -> Iterator[ClipLatents]:
    """Yields the latents of each clip; clips of like length come together.

    Args:
        network: the GPT, where it is to run.
        clips: all that are wanted; the same ones get the same draws.
        stats: [80], what mels are divided by.
        layout: of the model's rows.
        max_positions: computed at once.

    Raises:
        InputError: a clip's arrays are damaged or gone; code `cache_damaged`.
    """
    device = next(network.parameters()).device
    network.eval()
    lengths = [clip.num_positions + NUM_LATENTS for clip in clips]
    for indices in plan_epoch(lengths, max_positions=max_positions, seed=0, epoch=0):
        rows = fixed_rows(clips, indices)
        batch = collate(rows, clips, stats, layout).to(device)
        true = network.latents(batch)
        codes = [
            _drawn_codes(network, found, row, clips, layout)
            for row, found in zip(rows, true, strict=True)
        ]
        drawn = network.latents(_with_codes(batch, rows, codes, layout))
        for row, mixed, own, other in zip(rows, codes, true, drawn, strict=True):
            yield ClipLatents(row.clip, _of_codes(own, row), mixed, _of_codes(other, row))


def _first_code(row: Row) -> int:
    """Returns the position of a row that predicts its first code, the voice left aside."""
    return len(row.clip.token_ids) + 2  # behind the text, its start and its end


def _drawn_codes(
    network: FitGpt, latents: Tensor, row: Row, clips: PreparedClips, layout: Layout
) -> npt.NDArray[np.int64]:
    """Returns the codes of a row, [codes], part of them drawn; never a start or a stop."""
    first = NUM_LATENTS + _first_code(row)
    num_codes = min(layout.start_audio, layout.stop_audio)
    logits = network.mel_head(latents[first : first + row.clip.num_codes])[:, :num_codes]
    rng = np.random.default_rng((_SEED, row.index))
    return mix_drawn(clips.codes(row.clip), logits.float().cpu().numpy(), rng)


def _with_codes(
    batch: FitBatch,
    rows: Sequence[Row],
    codes: Sequence[npt.NDArray[np.int64]],
    layout: Layout,
) -> FitBatch:
    """Returns the batch with other codes in its rows."""
    tokens = batch.tokens.clone()
    for place, (row, own) in enumerate(zip(rows, codes, strict=True)):
        first = _first_code(row) + 1  # behind the start token
        put = torch.from_numpy(layout.num_text_tokens + own).to(tokens.device)
        tokens[place, first : first + len(own)] = put
    return replace(batch, tokens=tokens)


def _of_codes(latents: Tensor, row: Row) -> FloatArray:
    first = NUM_LATENTS + _first_code(row)
    found: FloatArray = latents[first : first + row.clip.num_codes + 1].float().cpu().numpy()
    return found
