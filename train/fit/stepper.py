"""One optimizer step: gradients of an effective batch in as many pieces as memory asks for.

What is not finite never reaches the weights: the clips at fault are named and put aside, and the
step is made again without them. Out of memory: the pieces halve, the effective batch stays. Knows
rows and a network; nothing of epochs, files or schedules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from app.errors import InputError
from train.data.prepared import PreparedClips
from train.fit.batch import Layout, Row, audio_s, collate
from train.fit.memory import Pieces, free_memory, out_of_memory, reason_if_memory
from train.fit.network import FitGpt
from train.fit.quarantine import Aside, Quarantine, aside_of
from train.parallel import from_all, sum_gradients, sum_of

#: Shares of the two losses (`GPTArgs.gpt_loss_text_ce_weight`, `gpt_loss_mel_ce_weight`).
TEXT_WEIGHT, MEL_WEIGHT = 0.01, 1.0
#: Positions of the conditioning before each row.
PROMPT_POSITIONS = 32
_log = logging.getLogger(__name__)


class StoppedError(Exception):
    """A stop was asked for in the middle of a step; the step did not happen."""


@dataclass(frozen=True)
class Sums:
    """Losses summed over targets, and how many there were."""

    text: float = 0.0
    mel: float = 0.0
    num_text: int = 0
    num_mel: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.text + other.text,
            self.mel + other.mel,
            self.num_text + other.num_text,
            self.num_mel + other.num_mel,
        )

    @property
    def means(self) -> dict[str, float]:
        """`loss`, `text_ce` and `mel_ce`, means over targets in nats."""
        text = self.text / self.num_text if self.num_text else float("nan")
        mel = self.mel / self.num_mel if self.num_mel else float("nan")
        return {"loss": TEXT_WEIGHT * text + MEL_WEIGHT * mel, "text_ce": text, "mel_ce": mel}


@dataclass(frozen=True)
class StepResult:
    """What a step did; `sums` is None where it was refused and nothing moved."""

    sums: Sums | None
    grad_norm: float
    audio_s: float
    put_aside: tuple[Aside, ...] = ()


@dataclass
class _Seen:
    """What one pass over this process's rows found."""

    sums: Tensor
    rows: list[tuple[Sequence[Row], Tensor]] = field(default_factory=list)
    unreadable: list[Aside] = field(default_factory=list)


class Stepper:
    """Makes steps.

    Args:
        network: what is trained, on its device.
        optimizer: over its parameters.
        accelerator: device, number format, processes.
        clips: where arrays lie.
        stats: [80], what mels are divided by.
        layout: of rows.
        quarantine: clips to leave out; this adds to it.
        pieces: how much is computed at once.
        max_norm: gradients are scaled down to this length.
        stop_asked: looked at between pieces where one process trains alone.
    """

    def __init__(
        self,
        network: FitGpt,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        clips: PreparedClips,
        stats: Tensor,
        layout: Layout,
        quarantine: Quarantine,
        pieces: Pieces,
        *,
        max_norm: float,
        stop_asked: Callable[[], bool],
    ) -> None:
        self._network = network
        self._optimizer = optimizer
        self._accelerator = accelerator
        self._clips = clips
        self._stats = stats
        self._layout = layout
        self._quarantine = quarantine
        self._pieces = pieces
        self._max_norm = max_norm
        self._stop_asked = stop_asked
        network.checkpointing = pieces.checkpointing

    def step(
        self, batches: Sequence[Sequence[Row]], number: int, seed: int, *, blames: bool = True
    ) -> StepResult:
        """Learns from the rows of all batches, as one.

        Args:
            batches: of the whole step, the same in every process.
            number: of the step, for messages.
            seed: dropout follows from it and from the step.
            blames: whether clips may be put aside for what is not finite; not where the model
                itself is in doubt.

        Raises:
            StoppedError: a stop was asked for; nothing moved.
            OutputError: too many clips had to be put aside.
            DeviceError: not even one clip fits into memory.
        """
        put_aside: list[Aside] = []
        while True:
            kept = [[r for r in rows if r.index not in self._quarantine] for rows in batches]
            totals = num_targets([row for rows in kept for row in rows], self._layout)
            if totals.num_mel == 0:
                return StepResult(Sums(), 0.0, 0.0, tuple(put_aside))
            seen = self._gradients(kept, totals, np.random.SeedSequence((seed, number)))
            found = from_all(seen.unreadable, self._accelerator)
            norm = float("nan")
            if not found:
                sum_gradients(self._network, self._accelerator)
                length = nn.utils.clip_grad_norm_(self._network.parameters(), self._max_norm)
                sums = sum_of(seen.sums, self._accelerator)
                text, mel, norm = torch.stack((*sums, length.to(sums.dtype))).tolist()
                if np.isfinite((text, mel, norm)).all():
                    self._optimizer.step()
                    # evaluation, saving and samples need the room
                    self._optimizer.zero_grad(set_to_none=True)
                    all_rows = [row for rows in kept for row in rows]
                    done = Sums(text, mel, totals.num_text, totals.num_mel)
                    return StepResult(done, norm, audio_s(all_rows), tuple(put_aside))
                found = self._culprits(seen, number, sum(map(len, kept))) if blames else []
            self._optimizer.zero_grad(set_to_none=True)
            if not found:
                return StepResult(None, norm, 0.0, tuple(put_aside))
            found = [self._numbered(aside, number) for aside in found]
            self._quarantine.add(found)
            put_aside += found
            self._quarantine.raise_if_too_many()

    def _gradients(
        self, batches: Sequence[Sequence[Row]], totals: Sums, seeds: np.random.SeedSequence
    ) -> _Seen:
        """Fills the gradients of this process's rows; smaller pieces where memory runs out."""
        while True:
            self._optimizer.zero_grad(set_to_none=True)
            try:
                return self._backward(batches, totals, seeds)
            except (RuntimeError, MemoryError) as error:
                reason = reason_if_memory(error, self._accelerator.device)
                if not reason:
                    raise
            # out of the handler, whose traceback holds on to the tensors
            free_memory(self._accelerator.device)
            self._shrink(reason, batches)

    def _backward(
        self, batches: Sequence[Sequence[Row]], totals: Sums, seeds: np.random.SeedSequence
    ) -> _Seen:
        seen = _Seen(torch.zeros(2, device=self._accelerator.device))
        accelerator = self._accelerator
        mine = share_of(batches, accelerator.process_index, accelerator.num_processes)
        pieces = [p for rows in mine for p in split(rows, self._pieces.max_positions, self._layout)]
        noise = seeds.spawn(accelerator.num_processes)[accelerator.process_index]
        for piece, seed in zip(pieces, noise.generate_state(max(1, len(pieces))), strict=False):
            if accelerator.num_processes == 1 and self._stop_asked():
                raise StoppedError
            try:
                batch = collate(piece, self._clips, self._stats, self._layout)
            except InputError:
                seen.unreadable += self._unreadable(piece)
                continue
            if self._network.dropout:
                torch.manual_seed(int(seed))
            with self._autocast():
                losses = self._network(batch.to(accelerator.device))
            self._weighted(losses.text_sum, losses.mel_sum, totals).backward()  # type: ignore[no-untyped-call]
            seen.sums += torch.stack((losses.text_sum, losses.mel_sum)).detach()
            seen.rows.append((piece, losses.rows))
        return seen

    def _weighted(self, text_sum: Tensor, mel_sum: Tensor, totals: Sums) -> Tensor:
        return TEXT_WEIGHT * text_sum / totals.num_text + MEL_WEIGHT * mel_sum / totals.num_mel

    def _autocast(self) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def _shrink(self, reason: str, batches: Sequence[Sequence[Row]]) -> None:
        """Halves the pieces; where they are single clips, layers are computed twice instead."""
        rows = [row for batch in batches for row in batch]
        longest = max(row.num_positions(self._layout) + PROMPT_POSITIONS for row in rows)
        pieces = self._pieces
        if pieces.max_positions > longest:
            pieces.max_positions = max(longest, pieces.max_positions // 2)
            _log.warning(
                "Out of memory (%s): computing at most %d positions at once from here on; "
                "the effective batch stays.",
                reason,
                pieces.max_positions,
            )
        elif not pieces.checkpointing:
            pieces.checkpointing = self._network.checkpointing = True
            _log.warning(
                "Out of memory (%s) with one clip at a time: GRAD_CHECKPOINTING is switched on.",
                reason,
            )
        else:
            raise out_of_memory(reason)

    def _culprits(self, seen: _Seen, number: int, num_rows: int) -> list[Aside]:
        """Names the clips whose loss, or else whose gradient, is not finite; in every process.

        Where that is every clip of the step, it is no clip's fault, and none is named.
        """
        found = []
        for rows, losses in seen.rows:
            for row, values in zip(rows, losses.tolist(), strict=True):
                if not np.isfinite(values).all():
                    reason = f"its loss is not finite (text {values[0]:.4g}, codes {values[1]:.4g})"
                    found.append(aside_of(row.index, row.clip, number, "not_finite", reason))
        everywhere = from_all(found, self._accelerator)
        if not everywhere:
            for rows, _ in seen.rows:
                found += [
                    aside_of(
                        row.index, row.clip, number, "not_finite", "its gradient is not finite"
                    )
                    for row in rows
                    if not self._gradient_is_finite(row)
                ]
            everywhere = from_all(found, self._accelerator)
        return everywhere if len(everywhere) < max(2, num_rows) else []

    def _gradient_is_finite(self, row: Row) -> bool:
        self._optimizer.zero_grad(set_to_none=True)
        batch = collate([row], self._clips, self._stats, self._layout).to(self._accelerator.device)
        with self._autocast():
            losses = self._network(batch)
        totals = num_targets([row], self._layout)
        self._weighted(losses.text_sum, losses.mel_sum, totals).backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self._network.parameters() if p.grad is not None]
        return bool(torch.isfinite(nn.utils.get_total_norm(gradients)))

    def _unreadable(self, rows: Sequence[Row]) -> list[Aside]:
        faults = ((row, self._clips.fault_of(row.clip)) for row in rows)
        return [
            aside_of(row.index, row.clip, 0, "cache_damaged", fault.rstrip("."))
            for row, fault in faults
            if fault
        ]

    @staticmethod
    def _numbered(aside: Aside, number: int) -> Aside:
        return Aside(aside.index, aside.name, number, aside.kind, aside.reason)


def num_targets(rows: Sequence[Row], layout: Layout) -> Sums:
    """Returns how many text tokens and codes some rows have to learn."""
    counts = [row.num_targets(layout) for row in rows]
    return Sums(num_text=sum(c[0] for c in counts), num_mel=sum(c[1] for c in counts))


def share_of(
    batches: Sequence[Sequence[Row]], process: int, num_processes: int
) -> list[Sequence[Row]]:
    """Returns what one process computes of a step: whole batches as far as they go round.

    The rest is split by rows, so that a step is the same whatever the number of processes.
    """
    if num_processes == 1:
        return [rows for rows in batches if rows]
    whole = len(batches) // num_processes * num_processes
    mine = list(batches[process:whole:num_processes])
    mine += [rows[process::num_processes] for rows in batches[whole:]]
    return [rows for rows in mine if rows]


def split(rows: Sequence[Row], max_positions: int, layout: Layout) -> Iterator[Sequence[Row]]:
    """Yields rows in pieces whose padded positions stay within the limit; one row at least."""
    start, longest = 0, 0
    for number, row in enumerate(rows):
        grown = max(longest, row.num_positions(layout) + PROMPT_POSITIONS)
        if number > start and grown * (number - start + 1) > max_positions:
            yield rows[start:number]
            start, grown = number, row.num_positions(layout) + PROMPT_POSITIONS
        longest = grown
    if rows[start:]:
        yield rows[start:]
