"""How well the network predicts clips it never learnt from: the same stretches and masks always."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from app.errors import InputError
from train.data.batches import plan_epoch
from train.data.prepared import PreparedClip, PreparedClips
from train.fit.batch import Layout, Row, collate, fixed_rows
from train.fit.memory import Pieces, free_memory, out_of_memory, reason_if_memory
from train.fit.network import FitGpt
from train.fit.stepper import PROMPT_POSITIONS, StoppedError, Sums, num_targets, split
from train.parallel import sum_of

_log = logging.getLogger(__name__)


class HeldOut:
    """The clips that judge.

    Args:
        clips: where arrays lie.
        held_out: those to judge by.
        stats: [80], what mels are divided by.
        layout: of rows, the one of training.
        max_positions: of a batch.
    """

    def __init__(
        self,
        clips: PreparedClips,
        held_out: Sequence[PreparedClip],
        stats: Tensor,
        layout: Layout,
        max_positions: int,
    ) -> None:
        self._clips = clips
        self._stats = stats
        self._layout = layout
        lengths = [clip.num_positions + PROMPT_POSITIONS for clip in held_out]
        plan = plan_epoch(lengths, max_positions=max_positions, seed=0, epoch=0)
        self._batches = [fixed_rows(held_out, batch) for batch in plan]

    def losses(
        self,
        network: FitGpt,
        accelerator: Accelerator,
        pieces: Pieces,
        stop_asked: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Returns the mean losses over all targets; each process computes its share.

        Clips that can't be read or give no finite loss are named and left out.

        Raises:
            StoppedError: a stop was asked for, where one process trains alone.
        """
        mine = self._batches[accelerator.process_index :: accelerator.num_processes]
        total = torch.zeros(4, dtype=torch.float64)
        was_training = network.training
        network.eval()
        for rows in mine:
            for piece in split(rows, pieces.max_positions, self._layout):
                if accelerator.num_processes == 1 and stop_asked():
                    raise StoppedError
                total += self._sums(network, accelerator, piece)
        network.train(was_training)
        # float64 is not for every device; float32 holds sums over some hundred clips well enough
        text, mel, num_text, num_mel = sum_of(
            total.float().to(accelerator.device), accelerator
        ).tolist()
        return Sums(text, mel, int(num_text), int(num_mel)).means

    def _sums(self, network: FitGpt, accelerator: Accelerator, piece: Sequence[Row]) -> Tensor:
        """Returns [text, codes, number of text targets, number of code targets] of some rows.

        Rows that are too many for the memory, or of which one can't be read, are halved.
        """
        try:
            return self._sums_at_once(network, accelerator, piece)
        except InputError as error:
            if len(piece) == 1:
                name = piece[0].clip.name
                _log.warning("Held-out clip %s does not judge: %s", name, error.message)
                return torch.zeros(4, dtype=torch.float64)
        except (RuntimeError, MemoryError) as error:
            reason = reason_if_memory(error, accelerator.device)
            if not reason:
                raise
            if len(piece) == 1:
                raise out_of_memory(reason) from error
        free_memory(accelerator.device)
        middle = len(piece) // 2
        first = self._sums(network, accelerator, piece[:middle])
        return first + self._sums(network, accelerator, piece[middle:])

    @torch.no_grad()
    def _sums_at_once(
        self, network: FitGpt, accelerator: Accelerator, piece: Sequence[Row]
    ) -> Tensor:
        batch = collate(piece, self._clips, self._stats, self._layout)
        with accelerator.autocast():
            losses = network(batch.to(accelerator.device)).rows
        total = torch.zeros(4, dtype=torch.float64)
        for row, (text, mel) in zip(piece, losses.tolist(), strict=True):
            if math.isfinite(text) and math.isfinite(mel):
                counts = num_targets([row], self._layout)
                total += torch.tensor([text, mel, counts.num_text, counts.num_mel])
            else:
                _log.warning(
                    "Held-out clip %s does not judge: its loss is not finite.", row.clip.name
                )
        return total
