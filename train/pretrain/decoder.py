"""What the decoder stage learns from: true mel blocks first, then GPT latents.

Latent k has heard code k - 1, so it is taught the audio of that code: the decoder never has to
guess, and speech starts one code (23 ms at stride 512) late. Knows the corpus; segments and losses
are `train.decoder.job`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from train.decoder.job import ClipParts
from train.pretrain.corpus import Clip, Corpus

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


class CorpusClips:
    """The corpus as a source of segments (`train.decoder.job.ClipSource`).

    Args:
        corpus: of the recipe.
        clips: to learn from; those of fewer than `shortest` mel frames are left out.
        shortest: in mel frames.
        weights: how often each speaker's clips are drawn.
        source: of features.
        speakers: [speakers, 512], a vector for each of the corpus's speakers.
    """

    def __init__(
        self,
        corpus: Corpus,
        clips: list[Clip],
        shortest: int,
        weights: dict[str, float],
        source: FeatureSource,
        speakers: Tensor,
    ) -> None:
        self._corpus = corpus
        self._source = source
        self._vectors = speakers.numpy()
        self._clips = [clip for clip in clips if clip.num_frames >= shortest]
        mass = np.array([weights[clip.speaker] * clip.num_frames for clip in self._clips])
        self.chances = mass / mass.sum()
        self.delay = source.delay

    def read(self, index: int, rng: np.random.Generator) -> ClipParts:
        """Returns a clip with its features."""
        clip = self._clips[index]
        features = self._source.features(clip, rng)
        vector = self._vectors[self._corpus.speakers.index(clip.speaker)]
        return ClipParts(features, self._corpus.audio(clip), vector)
