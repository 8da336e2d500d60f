"""Batches for the GPT: clips as token rows, packed by length to a budget of tokens.

A batch depends on the seed and the step alone. Knows the corpus and the codes; nothing of the
network but its row layout (`gpt_model.PackedBatch`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.mels import NUM_MELS
from train.pretrain.codes import Codes
from train.pretrain.corpus import FRAME_S, Clip, Corpus
from train.pretrain.gpt_model import PackedBatch
from train.pretrain.recipe import Recipe
from train.pretrain.vocabulary import START, STOP, PhonemeVocabulary

_NUM_BUCKETS = 12
#: [START] and the language token stand before the first symbol
_BEFORE_SYMBOLS = 2
#: (share of the steps, longest clip in codes at stride 512): short clips first
_CURRICULUM = ((0.04, 80), (0.1, 130))


@dataclass(frozen=True)
class Row:
    """One clip as the GPT sees it."""

    clip: Clip
    speaker: int
    text: npt.NDArray[np.int64]
    """START, language, symbols, STOP."""
    codes: npt.NDArray[np.int64]
    aligned: npt.NDArray[np.float32]
    """Text position spoken at each code; -1 where unknown."""

    @property
    def length(self) -> int:
        """Positions of the row: text, start of audio, codes."""
        return len(self.text) + 1 + len(self.codes)


def make_row(
    clip: Clip, speaker: int, codes: npt.NDArray[np.int16], ids: list[int], stride_s: float
) -> Row:
    """Returns the row of a clip; `ids` are its language token and symbols."""
    text = np.array([START, *ids, STOP], dtype=np.int64)
    aligned = np.full(len(codes), -1.0, dtype=np.float32)
    if len(clip.times) == len(ids) - 1:
        middles = (np.arange(len(codes)) + 0.5) * stride_s
        symbols = np.arange(len(clip.times))
        aligned = (np.interp(middles, clip.times, symbols) + _BEFORE_SYMBOLS).astype(np.float32)
    return Row(clip, speaker, text, codes.astype(np.int64), aligned)


def without_text(row: Row) -> Row:
    """Returns a row whose text is only [START STOP], as guided sampling shows it to the GPT."""
    unknown = np.full_like(row.aligned, -1.0)
    return replace(row, text=np.array([START, STOP], dtype=np.int64), aligned=unknown)


class RowSource:
    """All rows of one split, and batches of them."""

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        codes: Codes,
        vocabulary: PhonemeVocabulary,
        mel_stats: Tensor,
        clips: list[Clip],
    ) -> None:
        self._recipe = recipe
        self._corpus = corpus
        self._stats = mel_stats
        self._text_tokens = vocabulary.num_tokens
        self.speakers = corpus.speakers
        weights = {speaker.name: speaker.weight for speaker in recipe.data.speakers}
        longest = recipe.gpt.max_audio_tokens - 4
        stride_s = FRAME_S * recipe.frames_per_code
        rows = [
            make_row(
                clip,
                self.speakers.index(clip.speaker),
                codes[clip.name],
                vocabulary.encode(clip.phonemes),
                stride_s,
            )
            for clip in clips
            if len(codes[clip.name]) < longest
        ]
        rows = [row for row in rows if len(row.text) < recipe.gpt.max_text_tokens]
        self.rows = sorted(rows, key=lambda row: (row.length, row.clip.name))
        self._weights = np.array([weights[row.clip.speaker] for row in self.rows])
        self._lengths = np.array([row.length for row in self.rows])
        self._buckets = np.array_split(np.arange(len(self.rows)), min(_NUM_BUCKETS, len(rows)))

    def draw(self, step: int, process: int = 0, *, short_first: bool = True) -> PackedBatch:
        """Returns the training batch of a step: rows of one length bucket, codes noised."""
        part = self._recipe.gpt
        rng = np.random.default_rng((self._recipe.seed, step, process))
        buckets = self._allowed(step) if short_first else self._buckets
        mass = np.array([(self._weights * self._lengths)[b].sum() for b in buckets])
        bucket = buckets[rng.choice(len(buckets), p=mass / mass.sum())]
        count = max(2, part.tokens // int(self._lengths[bucket].max()))
        chances = self._weights[bucket] / self._weights[bucket].sum()
        picked = rng.choice(bucket, size=count, p=chances)
        rows = [self.rows[i] for i in picked]
        if part.text_dropout:
            mute = rng.random(len(rows)) < part.text_dropout
            rows = [
                without_text(row) if drop else row for row, drop in zip(rows, mute, strict=True)
            ]
        return self.pack(rows, rng, part.code_noise)

    def _allowed(self, step: int) -> list[npt.NDArray[np.int64]]:
        share = step / self._recipe.gpt.steps
        scale = 2 / self._recipe.frames_per_code
        for until, longest in _CURRICULUM:
            if share < until:
                limit = longest * scale
                short = [b for b in self._buckets if len(self.rows[b[-1]].codes) <= limit]
                return short or self._buckets[:1]
        return self._buckets

    def pack(self, rows: list[Row], rng: np.random.Generator | None, noise: float) -> PackedBatch:
        """Returns rows as one batch; without `rng` the codes stay as they are."""
        size = (len(rows), max(row.length for row in rows))
        num_codes = self._recipe.codes.num_codes
        tokens = np.zeros(size, dtype=np.int64)
        positions = np.zeros(size, dtype=np.int64)
        targets = np.full(size, -100, dtype=np.int64)
        aligned = np.full(size, -1.0, dtype=np.float32)
        has_mel = np.zeros(size, dtype=bool)
        mels = []
        max_text = self._recipe.gpt.max_text_tokens + 2
        for i, row in enumerate(rows):
            codes, start = row.codes, len(row.text)
            if rng is not None and noise:
                swapped = rng.integers(num_codes, size=len(codes))
                codes = np.where(rng.random(len(codes)) < noise, swapped, codes)
            end = row.length
            tokens[i, :start] = row.text
            tokens[i, start] = self._text_tokens + num_codes
            tokens[i, start + 1 : end] = self._text_tokens + codes
            positions[i, :start] = np.arange(start)
            positions[i, start:end] = max_text + np.arange(len(codes) + 1)
            targets[i, start : end - 1] = row.codes
            targets[i, end - 1] = num_codes + 1
            aligned[i, start : end - 1] = row.aligned
            has_mel[i, start + 1 : end] = True
            mels.append(self.mel_blocks(row.clip)[: len(codes)])
        return PackedBatch(
            tokens=torch.from_numpy(tokens),
            positions=torch.from_numpy(positions),
            speakers=torch.tensor([row.speaker for row in rows]),
            targets=torch.from_numpy(targets),
            mels=torch.from_numpy(np.concatenate(mels)),
            has_mel=torch.from_numpy(has_mel),
            aligned=torch.from_numpy(aligned),
            text_lengths=torch.tensor([len(row.text) for row in rows]),
        )

    def mel_blocks(self, clip: Clip) -> npt.NDArray[np.float32]:
        """Returns the floored, normalised mel of each code [codes, 80 * frames per code]."""
        mel = np.maximum(self._corpus.code_mel(clip), self._recipe.codes.mel_floor)
        blocks: npt.NDArray[np.float32] = (mel / self._stats.numpy()).reshape(
            -1, NUM_MELS * self._recipe.frames_per_code
        )
        return blocks

    def style_mels(self, rng: np.random.Generator, frames: int) -> Tensor:
        """Returns one random stretch of speech of each speaker, [speakers, 80, frames]."""
        mels = []
        for speaker in self.speakers:
            clips = self._corpus.select(held_out=False, speaker=speaker)
            gathered: list[npt.NDArray[np.float32]] = []
            while sum(map(len, gathered)) < frames:
                gathered.append(self._corpus.style_mel(clips[rng.integers(len(clips))]))
            mels.append(np.concatenate(gathered)[:frames])
        stacked = torch.from_numpy(np.stack(mels)) / self._stats
        return stacked.transpose(1, 2)
