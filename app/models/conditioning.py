"""Turns a reference clip into a voice: the GPT's latents and the vocoder's speaker embedding.

Gives what `Xtts.get_conditioning_latents` of coqui-tts 0.28 gives, without coqui. The mels are
made on the CPU, so no FFT runs on the device; the networks run where they are kept. Knows no files
and no cache.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from app.engine.types import Conditioning
from app.errors import InputError, ModelFileError
from app.models.config import ModelConfig, ReferenceLengths
from app.models.mel import (
    NUM_REFERENCE_MELS,
    NUM_SPEAKER_MELS,
    REFERENCE_RATE,
    SPEAKER_N_FFT,
    SPEAKER_RATE,
    SPEAKER_WINDOW,
    PowerSpectrum,
    ReferenceMel,
    SpeakerMel,
    stft_power,
)
from app.models.speaker_encoder import SpeakerEncoder
from app.models.style_encoder import StyleEncoder
from app.models.weights import (
    State,
    check_shapes_or_raise,
    fill_module,
    select,
    to_float32,
    unfilled,
)

#: Raised whenever the same clip and weights would give other values: cached ones are then stale.
EXTRACTOR_VERSION = 1
#: Shorter chunks are left out (Xtts.get_gpt_cond_latents, MIN_AUDIO_SECONDS), in seconds.
MIN_CHUNK_S = 0.33

_NORMALISED_PEAK = 0.75
_SPEAKER_PREFIX = "hifigan_decoder.speaker_encoder."
_EMPHASIS, _WINDOW, _FILTERS = (
    "torch_spec.0.filter",
    "torch_spec.1.spectrogram.window",
    "torch_spec.1.mel_scale.fb",
)


class Conditioner:
    """Computes a voice from a clip. Never changed by a call, so threads may share it."""

    def __init__(
        self,
        style_encoder: StyleEncoder,
        speaker_encoder: SpeakerEncoder,
        reference_mel: ReferenceMel,
        speaker_mel: SpeakerMel,
        lengths: ReferenceLengths,
        device: torch.device,
    ) -> None:
        self._style_encoder = style_encoder.to(device)
        self._speaker_encoder = speaker_encoder.to(device)
        self._reference_mel = reference_mel
        self._speaker_mel = speaker_mel
        self._lengths = lengths
        self.device = device

    @classmethod
    def from_state_dict(
        cls,
        state: State,
        config: ModelConfig,
        path: Path,
        device: torch.device | str = "cpu",
        power: PowerSpectrum = stft_power,
    ) -> Conditioner:
        """Takes the encoders' tensors from a stock state dict; float32 ones are not copied.

        Args:
            state: tensors by stock name; more than needed is fine.
            config: of the same model.
            path: where the state came from, for messages.
            device: where the networks run.
            power: how spectra are made.

        Raises:
            ModelFileError: a tensor is missing or of another shape, or the model is an XTTS v1,
                which has no perceiver.
        """
        if not config.uses_perceiver:
            raise ModelFileError(
                f"{config.path} is of an XTTS v1 model (gpt_use_perceiver_resampler is not true); "
                "only XTTS v2 can be used."
            )
        with unfilled():
            style_encoder = StyleEncoder(NUM_REFERENCE_MELS, config.gpt_width, config.gpt_heads)
            speaker_encoder = SpeakerEncoder(NUM_SPEAKER_MELS)
        fill_module(style_encoder, _style_state(state), path)
        speaker_state = to_float32(select(state, _SPEAKER_PREFIX))
        speaker_mel = _take_speaker_mel(speaker_state, path, power)
        fill_module(speaker_encoder, speaker_state, path)
        stats = to_float32({"mel_stats": state["mel_stats"]} if "mel_stats" in state else {})
        check_shapes_or_raise(stats, {"mel_stats": (NUM_REFERENCE_MELS,)}, path)
        reference_mel = ReferenceMel(stats["mel_stats"], power)
        return cls(
            style_encoder,
            speaker_encoder,
            reference_mel,
            speaker_mel,
            config.reference,
            torch.device(device),
        )

    @property
    def gpt_width(self) -> int:
        """Width of the GPT latents of a voice."""
        return self._style_encoder.conditioning_encoder.init.out_channels

    @property
    def speaker_dim(self) -> int:
        """Length of the speaker embedding of a voice."""
        return self._speaker_encoder.fc.out_features

    @cached_property
    def identity(self) -> str:
        """Hex SHA-256 of all that decides what a clip turns into: weights, lengths, version."""
        digest = hashlib.sha256(f"{EXTRACTOR_VERSION} {self._lengths}".encode())
        mel_tensors = (*self._reference_mel.tensors, *self._speaker_mel.tensors)
        modules = (self._style_encoder, self._speaker_encoder)
        tensors = (*mel_tensors, *(value for module in modules for value in _values(module)))
        for tensor in tensors:
            digest.update(tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def encode(self, samples: NDArray[np.float32], sample_rate: int) -> Conditioning:
        """Computes a voice.

        Args:
            samples: [T] mono, about -1..1.
            sample_rate: of `samples`, in Hz.

        Returns:
            float32 tensors on the conditioner's device.

        Raises:
            InputError: the clip is shorter than 0.33 s, silent, or holds numbers that are none.
        """
        clip = self._prepare(samples, sample_rate)
        latents = self._gpt_latents(clip)
        at_speaker_rate = torchaudio.functional.resample(clip, REFERENCE_RATE, SPEAKER_RATE)
        mel = self._speaker_mel(at_speaker_rate).to(self.device)
        return Conditioning(latents, self._speaker_encoder(mel).unsqueeze(-1))

    def _prepare(self, samples: NDArray[np.float32], sample_rate: int) -> Tensor:
        """Returns [1, T] at 22.05 kHz, clipped to -1..1 and cut to `max_s`."""
        if samples.ndim != 1 or not np.isfinite(samples).all() or not samples.any():
            raise InputError(
                "The reference clip is silent or damaged; record it again.", param="file"
            )
        # one second more than is kept: the resampler's filter must not see the cut
        kept = samples[: (self._lengths.max_s + 1) * sample_rate]
        clip = torch.from_numpy(np.ascontiguousarray(kept, dtype=np.float32))[None]
        if sample_rate != REFERENCE_RATE:
            clip = torchaudio.functional.resample(clip, sample_rate, REFERENCE_RATE)
        clip = clip.clip(-1, 1)[:, : REFERENCE_RATE * self._lengths.max_s]
        if self._lengths.normalise:
            clip = clip / clip.abs().max() * _NORMALISED_PEAK
        return clip

    def _gpt_latents(self, clip: Tensor) -> Tensor:
        """Returns [1, 32, width]: the mean over the chunks of the clip."""
        if self._lengths.total_s > 0:
            clip = clip[:, : REFERENCE_RATE * self._lengths.total_s]
        chunks = [
            chunk
            for chunk in torch.split(clip, REFERENCE_RATE * self._lengths.chunk_s, dim=1)
            if chunk.shape[1] >= REFERENCE_RATE * MIN_CHUNK_S
        ]
        if not chunks:
            raise InputError(
                f"The reference clip is shorter than {MIN_CHUNK_S} s; send a longer one.",
                param="file",
            )
        styles = [self._style_encoder(self._reference_mel(c).to(self.device)) for c in chunks]
        return torch.stack(styles).mean(dim=0)


def _style_state(state: State) -> State:
    parts = ("conditioning_encoder.", "conditioning_perceiver.")
    below_gpt = select(state, "gpt.")
    return to_float32({name: v for name, v in below_gpt.items() if name.startswith(parts)})


def _take_speaker_mel(speaker_state: State, path: Path, power: PowerSpectrum) -> SpeakerMel:
    """Takes the front end's own tensors out of the speaker encoder's."""
    expected = {
        _EMPHASIS: (1, 1, 2),
        _WINDOW: (SPEAKER_WINDOW,),
        _FILTERS: (SPEAKER_N_FFT // 2 + 1, NUM_SPEAKER_MELS),
    }
    taken = {name: speaker_state.pop(name) for name in expected if name in speaker_state}
    check_shapes_or_raise(taken, expected, path)
    return SpeakerMel(taken[_EMPHASIS], taken[_WINDOW], taken[_FILTERS], power)


def _values(module: torch.nn.Module) -> list[Tensor]:
    return [value for _, value in sorted(module.state_dict().items())]
