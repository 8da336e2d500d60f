"""The decoder stage: a HiFi-GAN trained on true mel blocks, then on GPT latents.

The last steps may have an adversary beside the spectral distances (`adversary`).

Latent k has heard code k - 1, so it is taught the audio of that code: the decoder never has to
guess, and speech starts one code (23 ms at stride 512) late. Knows segments and losses; the
network is `vocoder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from train.mels import MEL_RATE
from train.pretrain.adversary import Adversary
from train.pretrain.corpus import AUDIO_RATE, Clip, Corpus
from train.pretrain.recipe import DecoderPart
from train.pretrain.vocoder import stretch, stretched_samples
from train.spectral import SpectralDistance

_STFT_WEIGHT, _MEL_WEIGHT = 1.0, 2.0
#: Largest spread of the noise on true mel blocks, which stand in for drawn ones.
_MEL_NOISE = 0.15

Features = npt.NDArray[np.float32]


class FeatureSource(Protocol):
    """What the generator is fed with."""

    @property
    def delay(self) -> int:
        """Codes that the features are behind the audio."""
        ...

    def features(self, clip: Clip, rng: np.random.Generator) -> Features:
        """Returns the features of a clip, [codes, width]."""
        ...


@dataclass(frozen=True)
class MelBlocks:
    """The true mel blocks of `RowSource.mel_blocks`, slightly noised."""

    mel_blocks: Any
    delay: int = 0

    def features(self, clip: Clip, rng: np.random.Generator) -> Features:
        """Returns the blocks of a clip, [codes, 80 * frames per code]."""
        blocks: Features = self.mel_blocks(clip)
        spread = _MEL_NOISE * rng.random()
        return blocks + spread * rng.standard_normal(blocks.shape).astype(np.float32)


class DecoderJob:
    """Trains a generator on random segments."""

    def __init__(
        self,
        generator: nn.Module,
        corpus: Corpus,
        clips: list[Clip],
        weights: dict[str, float],
        source: FeatureSource,
        speakers: Tensor,
        part: DecoderPart,
        frames_per_code: int,
        seed: int,
        adversary: Adversary | None = None,
        adversary_from: int = 0,
    ) -> None:
        self.module = generator
        self._adversary = adversary
        self._adversary_from = adversary_from
        self._corpus = corpus
        self._source = source
        self._vectors = speakers
        self._part = part
        self._per_code = frames_per_code
        self._seed = seed
        self._names = corpus.speakers
        shortest = (part.segment_codes + 1) * frames_per_code
        self._clips = [clip for clip in clips if clip.num_frames >= shortest]
        mass = np.array([weights[clip.speaker] * clip.num_frames for clip in self._clips])
        self._chances = mass / mass.sum()
        self._distance = SpectralDistance(AUDIO_RATE, _STFT_WEIGHT, _MEL_WEIGHT)

    def losses(self, step: int, process: int) -> dict[str, Tensor]:
        """Spectral distances of one batch of segments, and what the adversary noticed."""
        features, wanted, vectors = self._batch(step, process)
        made = self.module(stretch(features, self._per_code), vectors[..., None])
        with torch.autocast(features.device.type, enabled=False):
            found = self._distance(made.float()[:, 0], wanted)
            total = found["spectral"]
            if self._adversary is not None and step >= self._adversary_from:
                found["discriminators"] = self._adversary.teach(made.float()[:, 0], wanted)
                found |= self._adversary.judge(made.float()[:, 0], wanted)
                total = total + self._part.adversary_weight * found["adversary"]
        return {"loss": total, **found}

    def after_step(self, step: int) -> None:
        """Nothing to do."""

    def extra_state(self) -> dict[str, Any]:
        """Returns the adversary's state, where there is one."""
        return self._adversary.state() if self._adversary is not None else {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back `extra_state`; an adversary that came later starts afresh."""
        if self._adversary is not None and state:
            self._adversary.load_state(state)

    def _batch(self, step: int, process: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self._seed, step, process))
        size = self._part.segment_codes
        samples = stretched_samples(size, self._per_code)
        code_s = 256 * self._per_code / MEL_RATE
        features, audio, speakers = [], [], []
        for i in rng.choice(len(self._clips), size=self._part.batch, p=self._chances):
            clip = self._clips[i]
            found = self._source.features(clip, rng)
            start = int(rng.integers(len(found) - size + 1))
            first = round((start - self._source.delay) * code_s * AUDIO_RATE)
            features.append(found[start : start + size])
            audio.append(_cut(self._corpus.audio(clip), first, samples))
            speakers.append(self._names.index(clip.speaker))
        fed = torch.from_numpy(np.stack(features)).transpose(1, 2)
        return fed, torch.from_numpy(np.stack(audio)), self._vectors[speakers]


def _cut(audio: Features, first: int, count: int) -> Features:
    """Returns `count` samples from `first` on, silence where there are none."""
    part = audio[max(0, first) : max(0, first + count)]
    before = max(0, -first)
    return np.pad(part, (before, count - before - len(part)))
