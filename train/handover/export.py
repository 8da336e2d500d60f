"""Makes a bundle of a checkpoint: half the width, one voice, a manifest, the licence notice.

What the bundle says of itself comes from the starting model; what it speaks like, from held-out
recordings as the fine-tuned model hears them.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

from app.engine.types import Conditioning
from app.errors import AudioVoiceError, InputError
from app.models.bundles import CONFIG_FILE, DECODER_FILE, VOCAB_FILE, Bundle
from app.models.conditioning import Conditioner
from app.models.config import read_config, read_json
from app.models.manifest import (
    DataSource,
    DecoderSizes,
    Manifest,
    ModelSizes,
    VoiceEntry,
    hash_files,
    write_manifest,
)
from app.models.stored_voices import write_voice
from app.models.weights import State, read_state
from train.bundle_files import to_half, write_json
from train.data.audio_facts import read_recording
from train.data.levelling import Levelling, levelled, levelling_of
from train.handover.licence import licence_of, write_notice
from train.handover.new_folder import check_free_or_raise, publishing_new

TRAINING_FOLDER = "training"
#: How the folder of a finished run's bundle is named.
_NAMED = {"naming": "--to (EXPORT_NAME at the end of a run)", "param": "EXPORT_NAME"}
#: Recordings that a voice is the mean of; more change nothing that is heard.
MOST_RECORDINGS = 8
_VOICE_RE = re.compile(r"[^a-z0-9_-]+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Handover:
    """What is to become a bundle.

    Attributes:
        checkpoint: a `checkpoint_epoch_X.pt`.
        base: the bundle that training started from.
        recordings: of the speaker, held out; the voice is computed of them.
        speaker: becomes the voice's name.
        language: of the recordings.
        version: such as `epoch-3`.
        data: name of the clips, for the manifest; `hours` of them were learnt from.
        scores: measured quality, by telling names.
    """

    checkpoint: Path
    base: Bundle
    recordings: Sequence[str]
    speaker: str
    language: str
    version: str
    data: str
    hours: float
    scores: dict[str, float] = field(default_factory=dict)


def export_bundle(handover: Handover, target: Path) -> Path:
    """Writes the bundle; it appears whole under its name or not at all.

    Args:
        handover: what goes in.
        target: the bundle's folder, which must not exist; its name becomes the model's.

    Raises:
        SettingsError: `target` exists already, or can't be written.
        AudioVoiceError: the checkpoint is damaged, or no recording can be read.
    """
    check_free_or_raise(target, **_NAMED)  # before anything is read
    base = handover.base
    state = read_state(handover.checkpoint)
    voice = mean_voice(handover, state)
    name = voice_name(handover.speaker)
    with publishing_new(target, **_NAMED) as made:
        weights = {
            key: value.float().clone() if key == "mel_stats" else to_half(key, value)
            for key, value in state.items()
        }
        save_file(weights, made / "model.safetensors")
        config = {**read_json(base.config), "front_end": base.front_end}
        write_json(made / CONFIG_FILE, config)
        shutil.copyfile(base.vocab, made / VOCAB_FILE)
        if base.decoder is not None:
            shutil.copyfile(base.decoder, made / DECODER_FILE)
        if (base.folder / TRAINING_FOLDER).is_dir():  # so that it can be trained further
            shutil.copytree(base.folder / TRAINING_FOLDER, made / TRAINING_FOLDER)
        (made / "voices").mkdir()
        write_voice(made / "voices" / f"{name}.safetensors", voice)
        write_notice(made, base)
        write_manifest(made, _manifest(handover, target.name, name, state, made))
    return target


def mean_voice(handover: Handover, state: State) -> Conditioning:
    """Returns the mean of the recordings' conditioning, as the fine-tuned model hears them.

    Raises:
        InputError: none of the recordings can be read.
    """
    config = read_config(handover.base.config, handover.base.decoder)
    conditioner = Conditioner.from_state_dict(state, config, handover.checkpoint)
    levelling = levelling_of(handover.base)
    voices = [
        voice
        for path in handover.recordings[:MOST_RECORDINGS]
        if (voice := _hear(conditioner, path, levelling)) is not None
    ]
    if not voices:
        raise InputError(
            "None of the held-out recordings can be read any more; put the clips back where they "
            "were in training.",
            param="DATA",
        )
    embedding = torch.stack([voice.speaker_embedding for voice in voices]).mean(dim=0)
    return Conditioning(
        torch.stack([voice.gpt_latents for voice in voices]).mean(dim=0),
        # a mean of unit vectors is shorter, and the vocoder has only seen unit vectors
        torch.nn.functional.normalize(embedding, dim=1),
    )


def voice_name(speaker: str) -> str:
    """Returns a speaker's name as a voice's: lower case, no spaces; `speaker` where none is left.

    Names of voices are part of addresses and file names.
    """
    return _VOICE_RE.sub("-", speaker.lower()).strip("-") or "speaker"


def next_free_name(models_dir: Path, stem: str) -> str:
    """Returns `stem-v1`, or the next number that no folder under `models_dir` has.

    A run never replaces the voice of an earlier one, so there is always one to go back to.
    """
    number = 1
    while (models_dir / f"{stem}-v{number}").exists():
        number += 1
    return f"{stem}-v{number}"


def _hear(conditioner: Conditioner, path: str, levelling: Levelling | None) -> Conditioning | None:
    try:
        clip = levelled(read_recording(Path(path).read_bytes()), levelling)
        return conditioner.encode(clip.samples, clip.sample_rate)
    except (OSError, AudioVoiceError) as error:
        _log.warning("%s is left out of the voice: %s", path, error)
        return None


def _manifest(handover: Handover, name: str, voice: str, state: State, folder: Path) -> Manifest:
    base, of_base = handover.base, handover.base.manifest
    config = read_config(base.config, base.decoder)
    licence = licence_of(base)
    own = DataSource(
        name=handover.data,
        source="recordings of whoever trained this voice",
        licence="as their owner says",
        hours=round(handover.hours, 2),
    )
    inherited = (
        of_base.data
        if of_base
        else [DataSource(name=base.name, source="its makers' own", licence=licence, hours=0)]
    )
    return Manifest(
        name=name,
        version=handover.version,
        licence=licence,
        languages=list(base.languages),
        input_sample_rate=of_base.input_sample_rate if of_base else 22050,
        output_sample_rate=int(config.model_args.get("output_sample_rate") or 24000),
        front_end=base.front_end,
        sizes=_sizes(base, state),
        max_segment_chars=of_base.max_segment_chars if of_base else None,
        default_voice=voice,
        voices={
            voice: VoiceEntry(
                description=f"{handover.speaker}, fine-tuned from {base.name}",
                languages=[handover.language],
                licence=licence,
            )
        },
        sampling=of_base.sampling if of_base else config.sampling,
        data=[*inherited, own],
        made_by=f"python -m train fit on {handover.data}, from {base.name} {base.version}".strip(),
        notes=[f"The licence of {base.name} ({licence}) holds for these weights; see NOTICE.txt."],
        scores=handover.scores,
        files=hash_files(folder),
    )


def _sizes(base: Bundle, state: State) -> ModelSizes:
    args = read_config(base.config, base.decoder).model_args
    decoder = read_json(base.decoder) if base.decoder else {}
    known = {key: value for key, value in decoder.items() if key in DecoderSizes.model_fields}
    return ModelSizes(
        gpt_layers=int(args.get("gpt_layers", 30)),
        gpt_width=int(args.get("gpt_n_model_channels", 1024)),
        gpt_heads=int(args.get("gpt_n_heads", 16)),
        num_text_tokens=state["gpt.text_embedding.weight"].shape[0],
        num_audio_tokens=state["gpt.mel_embedding.weight"].shape[0],
        num_parameters=sum(value.numel() for value in state.values()),
        decoder=DecoderSizes.model_validate_json(json.dumps(known)),
    )
