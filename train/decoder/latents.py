"""GPT latents of prepared clips by teacher forcing: what the decoder gets when the clip is spoken.

Each clip's own codes go through the GPT with its text and, as voice, the stretch of the clip that
`fit` judges by. They are what stock coqui-tts computes of drawn codes before it decodes them
(`GPT.forward` with `return_latent=True`; tests hold the two together): latent k has heard the codes
before k, and the last one has heard all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from app.models.style_encoder import NUM_LATENTS
from train.data.batches import plan_epoch
from train.data.prepared import PreparedClip, PreparedClips
from train.fit.batch import Layout, collate, fixed_rows
from train.fit.network import FitGpt


@torch.no_grad()
def clip_latents(
    network: FitGpt, clips: PreparedClips, stats: Tensor, layout: Layout, max_positions: int
) -> Iterator[tuple[PreparedClip, npt.NDArray[np.float32]]]:
    """Yields each clip with its latents [codes + 1, width]; clips of like length come together.

    Args:
        network: the GPT, where it is to run.
        clips: all that are wanted.
        stats: [80], what mels are divided by.
        layout: of the model's rows.
        max_positions: computed at once.

    Raises:
        InputError: a clip's arrays are damaged or gone; code `cache_damaged`.
    """
    device = next(network.parameters()).device
    network.eval()
    lengths = [clip.num_positions + NUM_LATENTS for clip in clips]
    for batch in plan_epoch(lengths, max_positions=max_positions, seed=0, epoch=0):
        rows = fixed_rows(clips, batch)
        latents = network.latents(collate(rows, clips, stats, layout).to(device)).float().cpu()
        for row, found in zip(rows, latents, strict=True):
            # behind the voice, and the text between its start and its end
            first = NUM_LATENTS + len(row.clip.token_ids) + 2
            yield row.clip, found[first : first + row.clip.num_codes + 1].numpy()
