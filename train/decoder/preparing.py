"""Fills the folder that a decoder learns from: GPT latents, audio and speaker vectors of clips.

Knows the model that is fine-tuned and the prepared clips; nothing of training.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from app.engine.vocoder_weights import VocoderSizes
from app.files import sha256_of_file
from app.models.bundles import Bundle
from app.models.conditioning import Conditioner
from app.models.config import ModelConfig, read_config
from app.models.weights import State, read_state
from train.data.levelling import Levelling, levelling_of
from train.data.prepared import PreparedClips
from train.decoder.job import FloatArray
from train.decoder.latents import clip_latents
from train.decoder.material import Material, NewClip, stored_identity, write_material
from train.decoder.sound import clip_sound
from train.fit.network import load_network
from train.fit.setup import layout_of, mel_stats_of

#: Raised whenever the same clips and weights would give other arrays.
_FORMAT = 2
#: Recordings of a speaker that vectors are computed of.
_MOST_VECTORS = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BaseParts:
    """The model whose decoder is fine-tuned.

    Attributes:
        state: all its tensors, mapped from its file; `sha256` is of that file.
        sizes: of its decoder.
    """

    bundle: Bundle
    config: ModelConfig
    state: State
    sha256: str
    sizes: VocoderSizes

    @classmethod
    def read(cls, bundle: Bundle) -> BaseParts:
        """Reads a bundle.

        Raises:
            ModelFileError: a file is damaged, or a size makes no sense.
        """
        config = read_config(bundle.config, bundle.decoder)
        sizes = VocoderSizes.from_args(config.model_args, config.decoder_args)
        sha256 = sha256_of_file(bundle.weights)
        return cls(bundle, config, read_state(bundle.weights), sha256, sizes)


def material_identity(base: BaseParts, clips: PreparedClips) -> str:
    """Returns the hex SHA-256 of all that decides what is computed."""
    levelling = levelling_of(base.bundle)
    written = (
        f"{_FORMAT} {base.sha256} {clips.identity} {levelling} {base.sizes.output_sample_rate}"
    )
    return hashlib.sha256(written.encode()).hexdigest()


def open_or_prepare(
    folder: Path, base: BaseParts, clips: PreparedClips, device: torch.device, max_positions: int
) -> Material:
    """Returns the material of these clips for this model; computes it where it is not there.

    Args:
        folder: of the material.
        base: the model.
        clips: all clips of the run.
        device: where the GPT runs.
        max_positions: of the GPT computed at once.

    Raises:
        AudioVoiceError: a recording changed, the cache is damaged, or the disk is full.
    """
    identity = material_identity(base, clips)
    if stored_identity(folder) == identity:
        return Material(folder)
    _log.info("computing latents of %d clips", len(clips))
    levelling = levelling_of(base.bundle)
    speakers = _speaker_vectors(base, clips, levelling)
    made = _new_clips(base, clips, levelling, device, max_positions)
    return write_material(folder, identity, made, speakers)


def _new_clips(
    base: BaseParts,
    clips: PreparedClips,
    levelling: Levelling | None,
    device: torch.device,
    max_positions: int,
) -> Iterator[NewClip]:
    network = load_network(base.state, base.config, base.bundle.weights).to(device)
    stats = mel_stats_of(base.state, base.bundle)
    layout = layout_of(base.bundle, base.config, network)
    for found in clip_latents(network, clips, stats, layout, max_positions):
        clip = found.clip
        audio = clip_sound(clip, base.sizes.output_sample_rate, levelling)
        yield NewClip(clip.name, clip.side, clip.speaker, found.true, found.drawn, audio)


def _speaker_vectors(
    base: BaseParts, clips: PreparedClips, levelling: Levelling | None
) -> dict[str, list[FloatArray]]:
    """Returns vectors of recordings spread evenly over each speaker's, by the model's own encoder.

    Recordings to learn from, or those held out where a speaker has no others.
    """
    conditioner = Conditioner.from_state_dict(base.state, base.config, base.bundle.weights)
    found: dict[str, list[FloatArray]] = {}
    for speaker in dict.fromkeys(clip.speaker for clip in clips):
        own = [clip for clip in clips if clip.speaker == speaker]
        chosen = [clip for clip in own if clip.side == "train"] or own
        places = np.unique(np.linspace(0, len(chosen) - 1, _MOST_VECTORS).round().astype(int))
        found[speaker] = [
            conditioner.encode(
                clip_sound(chosen[i], base.sizes.output_sample_rate, levelling),
                base.sizes.output_sample_rate,
            )
            .speaker_embedding.flatten()
            .numpy()
            for i in places
        ]
    return found
