"""Training a decoder: random segments of features, and the audio that belongs to them.

Spectral distances, and from a step on an adversary beside them. Knows segments and losses; where
clips come from is the source's business, the loop is `train.loop`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from train.decoder.adversary import Adversary
from train.decoder.generator import samples_per_code, stretch, stretched_samples
from train.spectral import SpectralDistance

STFT_WEIGHT, MEL_WEIGHT = 1.0, 2.0

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ClipParts:
    """One clip to draw a segment from.

    Attributes:
        features: [codes, width], what the generator is fed with.
        audio: [samples] at the output's rate.
        speaker: [speaker width].
    """

    features: FloatArray
    audio: FloatArray
    speaker: FloatArray


class ClipSource(Protocol):
    """Clips with their features."""

    @property
    def chances(self) -> npt.NDArray[np.float64]:
        """How likely each clip is to be drawn; they sum to 1."""
        ...

    @property
    def delay(self) -> int:
        """Codes that the features are behind the audio."""
        ...

    def read(self, index: int, rng: np.random.Generator) -> ClipParts:
        """Returns a clip; what is random in it comes from `rng`."""
        ...


@dataclass(frozen=True)
class SegmentPlan:
    """What a batch is.

    Attributes:
        batch: segments of a step.
        codes: of a segment.
        scales: by which features are stretched in time, one after another.
        hop: samples of the audio for each stretched latent.
        sample_rate: of the audio, in Hz.
        seed: of the run.
        adversary_from: step from which the adversary plays, where there is one.
        adversary_weight: of what it noticed, beside the spectral distances.
    """

    batch: int
    codes: int
    scales: Sequence[float]
    hop: int
    sample_rate: int
    seed: int
    adversary_from: int = 0
    adversary_weight: float = 0.2


class DecoderJob:
    """Trains a generator on random segments (`train.loop.Job`)."""

    def __init__(
        self,
        generator: nn.Module,
        source: ClipSource,
        plan: SegmentPlan,
        adversary: Adversary | None = None,
    ) -> None:
        self.module = generator
        self._source = source
        self._plan = plan
        self._adversary = adversary
        self._distance = SpectralDistance(plan.sample_rate, STFT_WEIGHT, MEL_WEIGHT)

    def losses(self, step: int, process: int) -> dict[str, Tensor]:
        """Spectral distances of one batch of segments, and what the adversary noticed."""
        device = next(self.module.parameters()).device
        features, wanted, vectors = (part.to(device) for part in self._batch(step, process))
        made = self.module(stretch(features, self._plan.scales), vectors[..., None])
        with torch.autocast(device.type, enabled=False):
            found: dict[str, Tensor] = self._distance.to(device)(made.float()[:, 0], wanted)
            total = found["spectral"]
            if self._adversary is not None and step >= self._plan.adversary_from:
                found["discriminators"] = self._adversary.teach(made.float()[:, 0], wanted)
                found |= self._adversary.judge(made.float()[:, 0], wanted)
                total = total + self._plan.adversary_weight * found["adversary"]
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
        plan, source = self._plan, self._source
        rng = np.random.default_rng((plan.seed, step, process))
        samples = stretched_samples(plan.codes, plan.scales, plan.hop)
        per_code = samples_per_code(plan.scales, plan.hop)
        features, audio, speakers = [], [], []
        for index in rng.choice(len(source.chances), size=plan.batch, p=source.chances):
            clip = source.read(int(index), rng)
            start = int(rng.integers(len(clip.features) - plan.codes + 1))
            features.append(clip.features[start : start + plan.codes])
            audio.append(cut(clip.audio, round((start - source.delay) * per_code), samples))
            speakers.append(clip.speaker)
        fed = torch.from_numpy(np.stack(features)).transpose(1, 2)
        return fed, torch.from_numpy(np.stack(audio)), torch.from_numpy(np.stack(speakers))


def cut(audio: FloatArray, first: int, count: int) -> FloatArray:
    """Returns `count` samples from `first` on, silence where there are none."""
    part = audio[max(0, first) : max(0, first + count)]
    before = max(0, -first)
    return np.pad(part, (before, count - before - len(part)))
