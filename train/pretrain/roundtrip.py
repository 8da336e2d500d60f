"""What codes still hold: recordings through the DVAE and back, as a recogniser hears them.

This is the ceiling of whatever speaks with these codes alone; no GPT and no decoder is in it.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from TTS.tts.layers.xtts.dvae import DiscreteVAE

from app.errors import SettingsError
from train.griffin_lim import speak_mel
from train.mels import MEL_RATE
from train.pretrain.corpus import AUDIO_RATE, Clip
from train.pretrain.workspace import Workspace
from train.scores import ErrorCount, character_errors, word_errors
from train.transcribe import PocketSphinx

_CLIPS_PER_SPEAKER = 16
_log = logging.getLogger(__name__)


@torch.no_grad()
def roundtrip_errors(work: Workspace, dvae: DiscreteVAE) -> dict[str, dict[str, float]]:
    """Returns word and character error rates by speaker, with those of the recordings.

    Empty where no recogniser is installed.
    """
    try:
        ears = PocketSphinx()
    except SettingsError as error:
        _log.warning("The codes are not scored: %s", error.message)
        return {}
    dvae.eval()
    found: dict[str, dict[str, float]] = {}
    for name in work.corpus.speakers:
        sums = {"wer": ErrorCount(0, 0), "cer": ErrorCount(0, 0)}
        recorded = {"wer": ErrorCount(0, 0), "cer": ErrorCount(0, 0)}
        for clip in distinct_held_out(work, name)[:_CLIPS_PER_SPEAKER]:
            mel = torch.from_numpy(work.corpus.code_mel(clip)) / work.mel_stats
            drawn = dvae.infer(mel.T[None])[0][0].T * work.mel_stats
            floored = np.maximum(drawn.numpy(), work.recipe.codes.mel_floor)
            for totals, heard in (
                (sums, ears.transcribe(speak_mel(floored), MEL_RATE)),
                (recorded, ears.transcribe(work.corpus.audio(clip), AUDIO_RATE)),
            ):
                totals["wer"] += word_errors(clip.text, heard)
                totals["cer"] += character_errors(clip.text, heard)
        found[name] = {
            "wer": round(sums["wer"].rate, 3),
            "cer": round(sums["cer"].rate, 3),
            "recording_wer": round(recorded["wer"].rate, 3),
            "recording_cer": round(recorded["cer"].rate, 3),
        }
    return found


def distinct_held_out(work: Workspace, speaker: str) -> list[Clip]:
    """Returns one held-out clip of each text, in order."""
    clips = work.corpus.select(held_out=True, speaker=speaker)
    return list({clip.text: clip for clip in reversed(clips)}.values())[::-1]
