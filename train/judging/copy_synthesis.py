"""Copy synthesis: a recording through codes, GPT and vocoder and back, and how far off it comes.

The GPT is given the true text and the recording's own codes, so nothing is drawn: what is lost is
lost in the codes, the latents and the vocoder. Knows how the parts of a bundle meet for this.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from app.engine.decoder import GptDecoder
from app.engine.reference import vocode_whole
from app.errors import InputError
from app.models.bundles import Bundle
from app.models.loading import load_model
from train.data.base_model import describe_base
from train.data.dvae import CodeMaker
from train.judging.recordings import RATE
from train.judging.speaking import Samples
from train.mels import HOP, MEL_RATE, NUM_MELS, code_mel, resample

_FRAME_S = HOP / MEL_RATE
#: Log-mel below which nothing is heard (-35 dB of the power that full scale has in a band).
_FLOOR = -8.0


class CopySynthesis:
    """Copies recordings with one voice of a bundle.

    Args:
        bundle: with its DVAE.
        voice: of the bundle.
        language: of the texts.

    Raises:
        ModelFileError: a file is missing or damaged; without a DVAE nothing can be copied.
        InputError: the bundle has no such voice.
    """

    def __init__(self, bundle: Bundle, voice: str, language: str) -> None:
        base = describe_base(bundle)
        self._codes = CodeMaker.load(bundle, base, torch.device("cpu"))
        self._model = load_model(bundle)
        if voice not in self._model.voices:
            raise InputError(f"{bundle.name} has no stored voice {voice!r}.", param="voice")
        self._conditioning = self._model.voices[voice]
        self._language = language
        self._decoder = GptDecoder(self._model.speech.gpt)
        self._delay_s = base.stride / MEL_RATE

    @torch.inference_mode()
    def copy(self, text: str, recording: Samples) -> Samples:
        """Returns the copy [n] at the model's rate of a recording [m] at 24 kHz."""
        low = resample(torch.from_numpy(recording), RATE, MEL_RATE)
        codes = self._codes(code_mel(low), len(low))
        tokens = self._model.tokenizer.encode(text, self._language)
        row, first = self._decoder.prefill(tokens, self._conditioning.gpt_latents)
        heard = [self._decoder.step([row], [int(code)]).latents for code in codes]
        vocoder = self._model.speech.vocoder
        made: Samples = vocode_whole(
            vocoder, torch.cat([first.latents, *heard]), self._conditioning.speaker_embedding
        ).numpy()
        return made

    def distance(self, text: str, recording: Samples) -> float:
        """Returns the mean distance of a copy's log-mel from the recording's, in nats.

        The copy may be late by up to two codes, as a bundle's vocoder may hear latents late; the
        best of these delays counts.
        """
        wanted = _floored_mel(recording, RATE)
        made = _floored_mel(self.copy(text, recording), self._model.sample_rate)
        most = round(2 * self._delay_s / _FRAME_S)
        return min(_distance(made[:, late:], wanted) for late in range(most + 1))


def _floored_mel(samples: Samples, rate: int) -> Tensor:
    levelled = samples * np.float32(0.6 / max(1e-4, float(np.abs(samples).max(initial=0))))
    low = resample(torch.from_numpy(levelled), rate, MEL_RATE)
    mel = code_mel(low).clamp(min=_FLOOR)
    assert mel.shape[0] == NUM_MELS
    return mel


def _distance(made: Tensor, wanted: Tensor) -> float:
    frames = min(made.shape[1], wanted.shape[1])
    return float((made[:, :frames] - wanted[:, :frames]).abs().mean())
