"""How far a decoder is from held-out recordings, and how many codes its latents are behind them.

A clip is decoded whole with the mean vector of its speaker: from the latents of its own codes, and
from those of codes that the GPT partly drew (`drawn_…`). The distances are those of training; the
clips are not. Copies of true codes tell how much of the recording a decoder can give back; when a
voice speaks, it gets drawn ones.
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

#: What decides: the distance of a clip as it is, and with drawn codes in it.
TRUE, DRAWN = "spectral", "drawn_spectral"

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


@dataclass(frozen=True)
class Verdict:
    """Whether a decoder is to take the place of another.

    Speech is of drawn codes, so these must have come nearer to the recordings by more than chance
    would have it. But their targets are only roughly right where a draw is not: a decoder can come
    nearer to them by blurring. So copies of true codes may not have gone farther away at all.

    Attributes:
        true: change of copies of true codes.
        drawn: of partly drawn ones.
    """

    true: Change
    drawn: Change

    @property
    def is_better(self) -> bool:
        """Whether the drawn ones surely got better, and the true ones not worse."""
        return self.drawn.is_better and self.true.difference <= 0


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
        """Returns the distances of each clip, of its own codes and (`drawn_…`) of drawn ones.

        They are `stft`, `mel` and `spectral`, the weighted sum of both.
        """
        found = []
        for clip in self.clips:
            audio = self._material.audio(clip)
            of_clip: ClipDistances = {}
            for drawn, prefix in ((False, ""), (True, "drawn_")):
                made = self.aligned(generator, clip, delay, drawn=drawn)
                length = min(len(made), len(audio))
                compared = self._compare(made[:length], audio[:length])
                of_clip |= {f"{prefix}{name}": value for name, value in compared.items()}
            found.append(of_clip)
        return found

    def aligned(
        self, generator: nn.Module, clip: StoredClip, delay: int, *, drawn: bool = False
    ) -> FloatArray:
        """Returns a clip as the decoder says it, [samples], beginning with the recording."""
        made = self.speak(generator, clip, drawn=drawn)
        late = round(delay * self._per_code)
        return made[late:] if late >= 0 else np.pad(made, (-late, 0))

    @torch.no_grad()
    def speak(self, generator: nn.Module, clip: StoredClip, *, drawn: bool = False) -> FloatArray:
        """Returns all samples that a clip's latents become, of its own codes or of drawn ones."""
        device = next(generator.parameters()).device
        latents = torch.from_numpy(self._material.latents(clip, drawn=drawn)).T[None].to(device)
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


def judge_change(before: Sequence[ClipDistances], after: Sequence[ClipDistances]) -> Verdict:
    """Compares two decoders by two clips or more, clip by clip."""
    return Verdict(change(before, after, TRUE), change(before, after, DRAWN))


def change(
    before: Sequence[ClipDistances], after: Sequence[ClipDistances], name: str = TRUE
) -> Change:
    """Returns what became of one distance of two clips or more."""
    old, new = (np.array([found[name] for found in side]) for side in (before, after))
    each = new - old
    error = float(each.std(ddof=1) / math.sqrt(len(each)))
    return Change(float(old.mean()), float(new.mean()), float(each.mean()), error)
