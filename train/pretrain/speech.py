"""Speaks with a model in training, by coqui's own inference code.

For scores between stages only; the service has its own engine. Text goes in as phonemes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from TTS.tts.layers.xtts.gpt import GPT

from train.pretrain.recipe import ScorePart
from train.pretrain.vocabulary import PhonemeVocabulary
from train.pretrain.vocoder import stretch


@dataclass(frozen=True)
class Drawn:
    """Codes that the GPT drew for a text, and their latents."""

    codes: Tensor
    """[codes], the stop left out."""
    latents: Tensor
    """[1, codes + 1, D]."""
    over_long: bool
    """The stop was never drawn."""


class StockVoice:
    """One speaker's voice: a GPT with its conditioning latents."""

    def __init__(
        self, gpt: GPT, vocabulary: PhonemeVocabulary, prompt: Tensor, score: ScorePart
    ) -> None:
        gpt.eval()
        if not hasattr(gpt, "gpt_inference"):
            gpt.init_gpt_for_inference(kv_cache=True)
        self._gpt = gpt
        self._vocabulary = vocabulary
        self._prompt = prompt
        self._score = score

    @torch.no_grad()
    def draw(self, phonemes: str, seed: int, *, greedy: bool = False) -> Drawn:
        """Draws codes for a phoneme string, with the recipe's sampling or greedily."""
        torch.manual_seed(seed)
        text = torch.tensor([self._vocabulary.encode(phonemes)])
        codes = self._gpt.generate(
            cond_latents=self._prompt,
            text_inputs=text,
            do_sample=not greedy,
            top_p=self._score.top_p,
            top_k=self._score.top_k,
            temperature=self._score.temperature,
            num_return_sequences=1,
            num_beams=1,
            length_penalty=1.0,
            repetition_penalty=1.0,
            output_attentions=False,
        )
        latents = self._gpt(
            text,
            torch.tensor([text.shape[1]]),
            codes,
            torch.tensor([codes.shape[1] * self._gpt.code_stride_len]),
            cond_latents=self._prompt,
            return_attentions=False,
            return_latent=True,
        )
        over_long = bool(codes[0, -1] != self._gpt.stop_audio_token)
        return Drawn(codes[0, :-1], latents, over_long)


@torch.no_grad()
def decode(
    generator: nn.Module, latents: Tensor, vector: Tensor, frames_per_code: int
) -> npt.NDArray[np.float32]:
    """Returns samples at 24 kHz of latents [1, T, D] in the voice of a speaker vector [512]."""
    stretched = stretch(latents.transpose(1, 2), frames_per_code)
    made: npt.NDArray[np.float32] = generator(stretched, vector[None, :, None])[0, 0].numpy()
    return made
