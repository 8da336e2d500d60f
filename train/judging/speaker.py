"""Whose voice is it: Gaussian mixtures of cepstra, one for each speaker, against all speakers.

The classic measure of speaker verification before neural encoders (Reynolds, Quatieri and Dunn,
"Speaker verification using adapted Gaussian mixture models", 2000): a background mixture over
everybody's frames, its weights and means adapted to each speaker, and the mean log-likelihood
ratio of a clip's frames. It needs no weights of anybody and no model of ours is in it, so it
judges a voice independently; it hears timbre and channel, not manner of speaking, and tells apart
only the speakers it was given.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC

from train.judging.speaking import Samples
from train.mels import resample

Frames = npt.NDArray[np.float64]

_RATE = 16000
_NUM_CEPSTRA = 20
_COMPONENTS = 48
#: Frames' worth of trust in the background (Reynolds et al. use 16).
_RELEVANCE = 16.0
#: Frames within this of the clip's loudest are speech, in dB.
_SPEECH_RANGE_DB = 35.0


@dataclass(frozen=True)
class Verdict:
    """Whose voice a clip is found to be."""

    nearest: str
    """The speaker of the highest score."""
    margin: float
    """Nats per frame by which the claimed speaker is ahead of the best other one."""


class SpeakerModels:
    """Tells the speakers apart that it was fitted to.

    Args:
        clips: samples of each speaker, at `rate`; about a minute each is enough.
        rate: in Hz.
        seed: of the mixture's start.
    """

    def __init__(self, clips: Mapping[str, Sequence[Samples]], rate: int, seed: int = 1) -> None:
        from sklearn.mixture import GaussianMixture

        frames = {
            name: np.concatenate([speaker_frames(clip, rate) for clip in own])
            for name, own in clips.items()
        }
        fewest = min(len(own) for own in frames.values())
        rng = np.random.default_rng(seed)
        # As many frames of each, so that the background leans to nobody.
        joined = np.concatenate(
            [own[rng.permutation(len(own))[:fewest]] for own in frames.values()]
        )
        self._background: Any = GaussianMixture(
            min(_COMPONENTS, max(1, len(joined) // 50)), covariance_type="diag", random_state=seed
        )
        with warnings.catch_warnings():
            # Not converged after its rounds is good enough for a background.
            warnings.simplefilter("ignore")
            self._background.fit(joined)
        self._adapted = {name: self._adapt(own) for name, own in frames.items()}

    def _adapt(self, frames: Frames) -> Any:
        """Returns the background with weights and means moved towards a speaker's frames (MAP)."""
        shares = self._background.predict_proba(frames)
        counts = shares.sum(0)
        own = (shares.T @ frames) / np.maximum(counts, 1e-9)[:, None]
        trust = counts / (counts + _RELEVANCE)
        adapted = copy(self._background)
        adapted.means_ = trust[:, None] * own + (1 - trust)[:, None] * self._background.means_
        weights = trust * counts / len(frames) + (1 - trust) * self._background.weights_
        adapted.weights_ = weights / weights.sum()
        return adapted

    def scores(self, samples: Samples, rate: int) -> dict[str, float]:
        """Returns each speaker's mean log-likelihood ratio against the background, in nats."""
        frames = speaker_frames(samples, rate)
        base = float(self._background.score(frames))
        return {name: float(own.score(frames)) - base for name, own in self._adapted.items()}

    def judge(self, samples: Samples, rate: int, claimed: str) -> Verdict:
        """Returns whose voice a clip is found to be, and how clearly the claimed speaker's."""
        scores = self.scores(samples, rate)
        others = max(score for name, score in scores.items() if name != claimed)
        return Verdict(max(scores, key=lambda name: scores[name]), scores[claimed] - others)


def speaker_frames(samples: Samples, rate: int) -> Frames:
    """Returns the cepstra and their slopes of the frames that hold speech, [frames, 38].

    The first cepstrum is left out, so loudness does not count.
    """
    low = resample(torch.from_numpy(np.ascontiguousarray(samples)), rate, _RATE)
    cepstra = _transform()(low)
    both = torch.cat((cepstra[1:], compute_deltas(cepstra[1:][None])[0])).T
    level = cepstra[0]
    # The first cepstrum of a log-mel of 40 bands in dB: the mean level times the root of 40.
    loud = level > level.max() - _SPEECH_RANGE_DB * 40**0.5
    frames: Frames = both[loud].double().numpy()
    return frames


@cache
def _transform() -> MFCC:
    return MFCC(
        _RATE,
        _NUM_CEPSTRA,
        log_mels=False,
        melkwargs={"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40},
    )
