"""The codes stage: a DVAE that turns mels into codes, and every clip's codes.

The network is coqui's `DiscreteVAE`, so that stock code reads the weights. What is ours is how it
is trained: first as a plain autoencoder, then with a codebook laid by k-means, whose dead entries
are moved onto fresh frames; and, beside the mel, it must let a small head name the phoneme that is
spoken, which keeps what speech recognition needs in few bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from TTS.tts.layers.xtts.dvae import DiscreteVAE

from app.files import atomic_path
from app.text.phonemes import split_symbols
from train.mels import NUM_MELS
from train.pretrain.corpus import FRAME_S, Clip, Corpus
from train.pretrain.recipe import CodesPart

_RESTART_EVERY = 40
_KMEANS_CODES = 40_000
_KMEANS_FIRST_STEP = 10_000_000  # batches that training itself never draws
_KMEANS_ROUNDS = 12
_COMMITMENT = 0.25
_UNKNOWN_PHONE = -100

Codes = dict[str, npt.NDArray[np.int16]]


def build_dvae(part: CodesPart) -> DiscreteVAE:
    """Returns an untrained DVAE of the recipe's sizes (one layer halves the frame rate)."""
    return DiscreteVAE(**dvae_arguments(part))


def dvae_arguments(part: CodesPart) -> dict[str, Any]:
    """Returns what a trainer must pass to `DiscreteVAE` to load this recipe's weights."""
    return {
        "channels": NUM_MELS,
        "num_tokens": part.num_codes,
        "hidden_dim": part.hidden,
        "num_resnet_blocks": part.num_resnet_blocks,
        "codebook_dim": part.codebook_dim,
        "num_layers": (part.stride // 256).bit_length() - 1,
        "positional_dims": 1,
        "kernel_size": 3,
        "use_transposed_convs": False,
    }


class CodesModule(nn.Module):
    """The DVAE and the head that names phonemes from quantised codes."""

    def __init__(self, part: CodesPart, num_phones: int) -> None:
        super().__init__()
        self.dvae = build_dvae(part)
        self.phone_head = nn.Sequential(
            nn.Conv1d(part.codebook_dim, 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(128, num_phones, 1),
        )


class CodesJob:
    """Trains the DVAE on random crops of all clips that are not held out.

    With `trained`, a DVAE that has its codebook, it goes on from there.
    """

    def __init__(
        self,
        corpus: Corpus,
        mel_stats: Tensor,
        part: CodesPart,
        seed: int,
        trained: DiscreteVAE | None = None,
    ) -> None:
        self._part = part
        self._seed = seed
        self._stats = mel_stats
        self._clips = [c for c in corpus.select(held_out=False) if c.num_frames > part.crop_frames]
        self._mels = corpus.all_code_mels()
        index = {symbol: i for i, symbol in enumerate(_coarse_inventory(corpus))}
        self._labels = [phone_labels(clip, index) for clip in self._clips]
        self.module = CodesModule(part, len(index))
        self._used = torch.zeros(part.num_codes)
        self._latest = torch.zeros(0, part.codebook_dim)
        self._laid = trained is not None
        if trained is not None:
            self.module.dvae.load_state_dict(trained.state_dict())

    def losses(self, step: int, process: int) -> dict[str, Tensor]:
        """Mel distance, commitment and the phoneme head's cross-entropy on one batch."""
        mel, labels = self._batch(step, process)
        dvae = self.module.dvae
        encoded = dvae.encoder(mel)
        losses: dict[str, Tensor] = {}
        quantised, extra = encoded, torch.zeros(())
        if not self._laid and step >= self._part.warm_steps:
            self._lay_codebook()
        if self._laid:
            rows = encoded.float().transpose(1, 2)
            quantised, codes, extra = dvae.codebook(rows)
            quantised = quantised.transpose(1, 2)
            self._used.index_add_(0, codes.flatten(), torch.ones(codes.numel()))
            self._latest = rows.detach().flatten(0, 1)
            losses["commitment"] = extra
        drawn = dvae.decoder(quantised)
        floor = self._part.mel_floor / self._stats.view(1, -1, 1)
        mel_loss = F.l1_loss(torch.maximum(drawn.float(), floor), torch.maximum(mel, floor))
        # Below the floor the clamp has no gradient; a little plain L1 keeps the output near.
        mel_loss = mel_loss + 0.05 * F.l1_loss(drawn.float(), mel)
        phone = F.cross_entropy(
            self.module.phone_head(quantised).float(), labels, ignore_index=_UNKNOWN_PHONE
        )
        losses |= {"mel": mel_loss, "phone": phone}
        weight = self._part.phone_weight if bool((labels >= 0).any()) else 0.0
        total = mel_loss + _COMMITMENT * extra
        return {"loss": total + weight * phone if weight else total, **losses}

    def after_step(self, step: int) -> None:
        """Moves codes that nothing used lately onto frames of the latest batch."""
        if not self._laid or step % _RESTART_EVERY:
            return
        book = self.module.dvae.codebook
        dead = torch.nonzero(self._used < 1).flatten()
        count = min(len(dead), len(self._latest))
        if count and step < 0.8 * self._part.steps:
            picked = self._latest[torch.randperm(len(self._latest))[:count]]
            _set_codes(book, dead[:count], picked)
        self._used.zero_()

    def extra_state(self) -> dict[str, Any]:
        """Returns whether the codebook was laid."""
        return {"laid": self._laid}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back `extra_state`."""
        self._laid = bool(state["laid"])

    def _batch(self, step: int, process: int = 0) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self._seed, step, process))
        size, stride = self._part.crop_frames, self._part.stride // 256
        mels, labels = [], []
        for i in rng.integers(len(self._clips), size=self._part.batch):
            clip = self._clips[i]
            offset = int(rng.integers((clip.num_frames - size) // stride + 1)) * stride
            start = clip.frame_start + offset
            mels.append(self._mels[start : start + size])
            labels.append(self._labels[i][offset : offset + size : stride])
        mel = torch.from_numpy(np.stack(mels).astype(np.float32)) / self._stats
        return mel.transpose(1, 2), torch.from_numpy(np.stack(labels))

    @torch.no_grad()
    def _lay_codebook(self) -> None:
        vectors = []
        per_batch = self._part.batch * self._part.crop_frames // (self._part.stride // 256)
        for i in range(_KMEANS_CODES // per_batch + 1):
            mel, _ = self._batch(_KMEANS_FIRST_STEP + i)
            vectors.append(self.module.dvae.encoder(mel).float().transpose(1, 2).flatten(0, 1))
        rows = torch.cat(vectors)
        centres = rows[torch.randperm(len(rows))[: self._part.num_codes]].clone()
        for _ in range(_KMEANS_ROUNDS):
            nearest = torch.cdist(rows, centres).argmin(1)
            counts = torch.bincount(nearest, minlength=len(centres)).clamp(min=1)
            centres = torch.zeros_like(centres).index_add_(0, nearest, rows) / counts[:, None]
        everything = torch.arange(len(centres))
        _set_codes(self.module.dvae.codebook, everything, centres)
        self._laid = True


@torch.no_grad()
def _set_codes(book: Any, places: Tensor, vectors: Tensor) -> None:
    """Sets entries of coqui's `Quantize`, whose running sums must follow."""
    book.embed[:, places] = vectors.T
    book.cluster_size[places] = 1.0
    book.embed_avg[:, places] = vectors.T


def _coarse_inventory(corpus: Corpus) -> list[str]:
    return sorted({symbol for clip in corpus.clips for symbol in coarse_symbols(clip)})


def num_phones(corpus: Corpus) -> int:
    """Returns how many phonemes the head tells apart."""
    return len(_coarse_inventory(corpus))


def coarse_symbols(clip: Clip) -> list[str]:
    """Returns the symbols of a clip without stress marks."""
    return [symbol.removeprefix("ˈ") for symbol in split_symbols(clip.phonemes)]


def phone_labels(clip: Clip, index: dict[str, int]) -> npt.NDArray[np.int64]:
    """Returns for each mel frame the index of the symbol spoken, or -100 where it is unknown.

    Spaces are no sound: the symbol before or after, whichever is nearer, has their time.
    """
    symbols = coarse_symbols(clip)
    if len(symbols) != len(clip.times):
        return np.full(clip.num_frames, _UNKNOWN_PHONE, dtype=np.int64)
    spoken = [i for i, symbol in enumerate(symbols) if symbol != " "]
    times = np.array([clip.times[i] for i in spoken])
    ids = np.array([index[symbols[i]] for i in spoken], dtype=np.int64)
    borders = (times[1:] + times[:-1]) / 2
    frames = np.arange(clip.num_frames) * FRAME_S
    return ids[np.searchsorted(borders, frames)]


@torch.no_grad()
def measure_mel_stats(corpus: Corpus, floor: float) -> Tensor:
    """Returns what mels are divided by, [80]: each band's mean distance from zero."""
    mels = corpus.all_code_mels()
    sample = np.maximum(mels[:: max(1, len(mels) // 100_000)].astype(np.float32), floor)
    return torch.from_numpy(np.abs(sample).mean(0))


@torch.no_grad()
def encode_clips(
    dvae: DiscreteVAE, corpus: Corpus, mel_stats: Tensor, clips: Iterable[Clip] | None = None
) -> Codes:
    """Returns the codes of every clip, or of `clips` alone, by name."""
    dvae.eval()
    found: Codes = {}
    for clip in corpus.clips if clips is None else clips:
        mel = torch.from_numpy(corpus.code_mel(clip)) / mel_stats
        codes = dvae.get_codebook_indices(mel.T[None])[0]
        found[clip.name] = codes.to(torch.int16).numpy()
    return found


def save_codes(path: Path, codes: Codes) -> None:
    """Writes all codes into one `.npz` file."""
    with atomic_path(path) as part, part.open("wb") as stream:
        np.savez(stream, **codes)  # type: ignore[arg-type]


def load_codes(path: Path) -> Codes:
    """Reads what `save_codes` wrote."""
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
