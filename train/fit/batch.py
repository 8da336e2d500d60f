"""Which stretch of a clip is listened to, which codes are learnt, and both as tensors.

Everything that is drawn follows from the seed and the clip's place in the run, so that another
process or a resumed run draws the same. Knows clips; nothing of networks.

Where this differs from coqui's trainer (its two faults are described in docs/training.md):
`layout.coqui_masks` brings its ways back for a comparison.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.data.prepared import PreparedClip, PreparedClips
from train.mels import HOP, MEL_RATE

#: Stop tokens that stock's `GPT.forward` puts after the codes and has predicted. Speech ends at the
#: first one.
_COQUI_STOPS = 4
#: Stretch of a clip that conditions it (`GPTArgs.min_conditioning_length`, `max_…`), in frames.
MIN_STYLE_FRAMES = 66150 // HOP
MAX_STYLE_FRAMES = 132300 // HOP
#: What the evaluation takes: stock's `get_prompt_slice` has the middle of the two lengths.
_EVAL_STYLE_FRAMES = (MIN_STYLE_FRAMES + MAX_STYLE_FRAMES) // 2
_IGNORED = -100


@dataclass(frozen=True)
class Layout:
    """How the rows of a model are laid out.

    Attributes:
        start_text, stop_text, start_audio, stop_audio: special tokens.
        num_text_tokens: of the text table; codes follow behind it in the joined table.
        text_positions: of the text's position table; the codes' follow behind.
        stride: samples at 22.05 kHz in a code.
        coqui_masks: as coqui-tts trains, where it differs from how it speaks: the codes don't see
            the end of the text, four stops are learnt, and only the last clip of a batch has codes
            masked, by frames where codes were meant.
    """

    start_text: int
    stop_text: int
    start_audio: int
    stop_audio: int
    num_text_tokens: int
    text_positions: int
    stride: int
    coqui_masks: bool = False

    @property
    def num_stops(self) -> int:
        """Stop tokens after the codes that are to be predicted."""
        return _COQUI_STOPS if self.coqui_masks else 1


@dataclass(frozen=True)
class Row:
    """One clip in one batch: `start` and `num_frames` say which stretch of it is listened to."""

    index: int
    clip: PreparedClip
    start: int
    num_frames: int
    is_last: bool = False

    def masked(self, layout: Layout) -> tuple[int, int]:
        """Returns the range of codes that are heard in the stretch, and so are not to be learnt."""
        first, end = self.start, self.start + self.num_frames
        if layout.coqui_masks:
            if not self.is_last:
                return 0, 0
            num_targets = self.clip.num_codes + layout.num_stops
            return min(first, num_targets), min(end, num_targets)
        first_code = first * HOP // layout.stride
        end_code = -(-end * HOP // layout.stride)
        return first_code, min(end_code, self.clip.num_codes)

    def num_targets(self, layout: Layout) -> tuple[int, int]:
        """Returns how many text tokens and how many codes are learnt."""
        first, end = self.masked(layout)
        return len(self.clip.token_ids) + 1, self.clip.num_codes + layout.num_stops - (end - first)

    def num_positions(self, layout: Layout) -> int:
        """Returns the length of the row without its conditioning."""
        stop = 0 if layout.coqui_masks else 1
        return 1 + len(self.clip.token_ids) + stop + self.clip.num_codes + layout.num_stops


@dataclass(frozen=True)
class FitBatch:
    """Tensors of B rows of at most T positions.

    Attributes:
        style_mels: [B, 80, frames], divided by `mel_stats`.
        tokens, positions: [B, T] into the joined tables, text first.
        text_at, mel_at: places in the flattened [B * T] whose next token is learnt.
        text_targets, mel_targets: what is to be predicted there.
        text_rows, mel_rows: the row of each.
    """

    style_mels: Tensor
    tokens: Tensor
    positions: Tensor
    text_at: Tensor
    text_targets: Tensor
    text_rows: Tensor
    mel_at: Tensor
    mel_targets: Tensor
    mel_rows: Tensor

    @property
    def num_rows(self) -> int:
        """B."""
        return int(self.tokens.shape[0])

    def to(self, device: torch.device) -> FitBatch:
        """Returns the batch on another device; the copies run beside what the device does."""
        if device.type == "cpu":
            return self
        moved = {
            field.name: getattr(self, field.name).pin_memory().to(device, non_blocking=True)
            for field in dataclasses.fields(self)
        }
        return FitBatch(**moved)


def draw_rows(
    clips: Sequence[PreparedClip], indices: Sequence[int], place: tuple[int, ...]
) -> list[Row]:
    """Returns the rows of a batch to learn from, each with a random stretch to listen to.

    One length holds for the whole batch, so that no mel is padded: 3 to 6 s as in stock, and at
    most half of the shortest clip, so that half of each clip's codes stay to be learnt. (Stock
    takes up to the whole clip where it is shorter than 6 s, and pads with silence, which the
    encoder never hears when it speaks.)

    Args:
        clips: what `indices` count.
        indices: of the batch; those of similar length are best together.
        place: (seed, epoch, batch), from which the draws follow.
    """
    rng = np.random.default_rng(place)
    drawn = int(rng.integers(MIN_STYLE_FRAMES, MAX_STYLE_FRAMES + 1))
    length = _common_length([clips[index] for index in indices], drawn)
    return [
        Row(index, clips[index], int(start * (clips[index].num_frames - length + 1)), length, last)
        for index, start, last in zip(
            indices, rng.random(len(indices)), _last_of(len(indices)), strict=True
        )
    ]


def fixed_rows(clips: Sequence[PreparedClip], indices: Sequence[int]) -> list[Row]:
    """Returns the rows of a batch to judge by: always the same stretches, from the start on."""
    length = _common_length([clips[index] for index in indices], _EVAL_STYLE_FRAMES)
    return [
        Row(index, clips[index], 0, length, last)
        for index, last in zip(indices, _last_of(len(indices)), strict=True)
    ]


def collate(rows: Sequence[Row], clips: PreparedClips, stats: Tensor, layout: Layout) -> FitBatch:
    """Reads the arrays of rows and lays them out.

    Args:
        rows: of one length of conditioning.
        clips: where their arrays lie.
        stats: [80], what mels are divided by.
        layout: of the model.

    Raises:
        InputError: a clip's arrays are damaged or gone; code `cache_damaged`.
    """
    size = (len(rows), max(row.num_positions(layout) for row in rows))
    tokens = np.zeros(size, dtype=np.int64)
    positions = np.zeros(size, dtype=np.int64)
    text_targets = np.full(size, _IGNORED, dtype=np.int64)
    mel_targets = np.full(size, _IGNORED, dtype=np.int64)
    mels = []
    for i, row in enumerate(rows):
        codes = clips.codes(row.clip)
        mels.append(clips.style_mel(row.clip, row.start, row.num_frames))
        text, audio = _inputs(row, codes, layout)
        middle, end = len(text), len(text) + len(audio)
        tokens[i, :middle] = text
        tokens[i, middle:end] = layout.num_text_tokens + audio
        positions[i, :middle] = np.arange(middle)
        positions[i, middle:end] = layout.text_positions + np.arange(len(audio))
        learnt = len(row.clip.token_ids)
        text_targets[i, :learnt] = row.clip.token_ids
        text_targets[i, learnt] = layout.stop_text
        wanted = np.concatenate((codes, np.full(layout.num_stops, layout.stop_audio)))
        first, last = row.masked(layout)
        wanted[first:last] = _IGNORED
        mel_targets[i, middle:end] = wanted
    style = torch.from_numpy(np.stack(mels)) / stats[:, None]
    return FitBatch(
        style, *map(torch.from_numpy, (tokens, positions, *_picked(text_targets, mel_targets)))
    )


def _inputs(
    row: Row, codes: npt.NDArray[np.int64], layout: Layout
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns what stands in the text's and in the codes' positions of a row."""
    ids = row.clip.token_ids
    stop = () if layout.coqui_masks else (layout.stop_text,)
    text = np.array((layout.start_text, *ids, *stop), dtype=np.int64)
    stops = np.full(layout.num_stops - 1, layout.stop_audio)
    return text, np.concatenate(([layout.start_audio], codes, stops))


def _picked(*targets: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Returns (place, target, row) of each target that is to be learnt, kind after kind."""
    found = []
    for wanted in targets:
        at = np.flatnonzero(wanted != _IGNORED)
        found += [at, wanted.reshape(-1)[at], at // wanted.shape[1]]
    return found


def _common_length(clips: Sequence[PreparedClip], drawn: int) -> int:
    return max(1, min(drawn, min(clip.num_frames for clip in clips) // 2))


def _last_of(count: int) -> list[bool]:
    return [number == count - 1 for number in range(count)]


def audio_s(rows: Sequence[Row]) -> float:
    """Returns the seconds of recordings in some rows."""
    return sum(row.clip.num_samples for row in rows) / MEL_RATE
