"""How far a decoder is from held-out recordings, and how many codes its latents are behind them.

A clip is decoded whole, from the latents of its own codes, with the mean vector of its speaker.
The distances are those of training; the clips are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from app.errors import SettingsError
from train.decoder.generator import samples_per_code, stretch
from train.decoder.job import MEL_WEIGHT, STFT_WEIGHT, FloatArray
from train.decoder.material import Material, StoredClip
from train.spectral import SpectralDistance

#: Held-out clips that judge; more take longer and tell little more.
_LEAST_CLIPS, _MOST_CLIPS = 2, 16
_DELAY_CLIPS = 8
#: Codes that a decoder may have been trained to be behind. In coqui's inference it is 0: a latent
#: stands where the code is said that it predicts. The built-in voice's waits until it is heard.
_DELAYS = (-1, 0, 1, 2, 3)
#: So many times its standard error, and a mean difference is no chance.
_SURE = 2.0

ClipDistances = dict[str, float]


@dataclass(frozen=True)
class Delay:
    """Codes that latents are behind the audio, and the mean distance at each that was tried."""

    value: int
    distances: dict[int, float]

    @property
    def reason(self) -> str:
        """Why it is this one."""
        tried = ", ".join(f"{delay}: {value:.3f}" for delay, value in self.distances.items())
        return f"where the starting decoder is nearest to held-out recordings ({tried})"


@dataclass(frozen=True)
class Change:
    """What became of the distance of held-out clips.

    Attributes:
        before, after: mean distances.
        difference: mean of after less before, clip by clip; `error` is its standard error.
    """

    before: float
    after: float
    difference: float
    error: float

    @property
    def is_better(self) -> bool:
        """Whether the distance fell by more than chance would have it."""
        return self.difference < -_SURE * self.error


class Judge:
    """Judges decoders of one model by the same clips.

    Args:
        material: of the run.
        scales: by which latents are stretched in time.
        hop: samples for each stretched latent.
        sample_rate: of the audio, in Hz.

    Raises:
        SettingsError: too few held-out clips are long enough.
    """

    def __init__(
        self, material: Material, scales: Sequence[float], hop: int, sample_rate: int
    ) -> None:
        self._material = material
        self._scales = scales
        self._per_code = samples_per_code(scales, hop)
        self._distance = SpectralDistance(sample_rate, STFT_WEIGHT, MEL_WEIGHT)
        least = len(_DELAYS) + sample_rate / 2 / self._per_code
        long_enough = [clip for clip in material.side("eval") if clip.num_latents > least]
        if len(long_enough) < _LEAST_CLIPS:
            raise SettingsError(
                f"{len(long_enough)} held-out clips are longer than a second, and {_LEAST_CLIPS} "
                "are the least that can judge the decoder: add clips, or raise EVAL_SHARE.",
                param="EVAL_SHARE",
            )
        count = min(_MOST_CLIPS, len(long_enough))
        places = np.linspace(0, len(long_enough) - 1, count).round().astype(int)
        self.clips = [long_enough[place] for place in places]

    def find_delay(self, generator: nn.Module) -> Delay:
        """Returns the delay at which a trained decoder is nearest to the recordings.

        All delays are compared on the same stretch of each clip.
        """
        chosen = self.clips[:_DELAY_CLIPS]
        sums = dict.fromkeys(_DELAYS, 0.0)
        for clip in chosen:
            made, audio = self.speak(generator, clip), self._material.audio(clip)
            first = math.ceil(_DELAYS[-1] * self._per_code)
            end = min(len(made), len(audio) + math.floor(_DELAYS[0] * self._per_code))
            for delay in _DELAYS:
                moved = first - round(delay * self._per_code)
                wanted = audio[moved : moved + end - first]
                sums[delay] += self._compare(made[first:end], wanted)["spectral"]
        means = {delay: total / len(chosen) for delay, total in sums.items()}
        return Delay(min(means, key=lambda delay: means[delay]), means)

    def distances(self, generator: nn.Module, delay: int) -> list[ClipDistances]:
        """Returns `stft`, `mel` and their weighted sum `spectral` of each clip."""
        found = []
        for clip in self.clips:
            made, audio = self.aligned(generator, clip, delay), self._material.audio(clip)
            length = min(len(made), len(audio))
            found.append(self._compare(made[:length], audio[:length]))
        return found

    def aligned(self, generator: nn.Module, clip: StoredClip, delay: int) -> FloatArray:
        """Returns a clip as the decoder says it, [samples], beginning with the recording."""
        made = self.speak(generator, clip)
        late = round(delay * self._per_code)
        return made[late:] if late >= 0 else np.pad(made, (-late, 0))

    @torch.no_grad()
    def speak(self, generator: nn.Module, clip: StoredClip) -> FloatArray:
        """Returns all samples that the latents of a clip become."""
        device = next(generator.parameters()).device
        latents = torch.from_numpy(self._material.latents(clip)).T[None].to(device)
        vector = torch.from_numpy(self._material.mean_speaker(clip.speaker)).to(device)
        made = generator(stretch(latents, self._scales), vector[None, :, None])
        samples: FloatArray = made[0, 0].float().cpu().numpy()
        return samples

    def recording(self, clip: StoredClip) -> FloatArray:
        """Returns the recording of a clip, [samples]."""
        return self._material.audio(clip)

    @torch.no_grad()
    def _compare(self, made: FloatArray, wanted: FloatArray) -> ClipDistances:
        found = self._distance(torch.from_numpy(made)[None], torch.from_numpy(wanted)[None])
        return {name: float(value) for name, value in found.items()}


def mean_of(distances: Sequence[ClipDistances]) -> ClipDistances:
    """Returns the mean of each distance over clips."""
    return {name: sum(found[name] for found in distances) / len(distances) for name in distances[0]}


def change(before: Sequence[ClipDistances], after: Sequence[ClipDistances]) -> Change:
    """Compares two decoders by two clips or more, clip by clip."""
    old, new = (np.array([found["spectral"] for found in side]) for side in (before, after))
    each = new - old
    error = float(each.std(ddof=1) / math.sqrt(len(each)))
    return Change(float(old.mean()), float(new.mean()), float(each.mean()), error)
