"""The audio that a decoder is to make of a clip: at the output's rate, cut as the clip's codes are.

Codes were made of the recording at 22.05 kHz, and for some models of a part of it, brought to one
peak (`train.data.levelling`). This finds the same part of the recording itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torchaudio
from torch import Tensor

from app.errors import AudioVoiceError, InputError
from app.files import sha256_of_bytes
from train.data.audio_facts import read_recording
from train.data.base_model import TRAINING_RATE
from train.data.levelling import Levelling
from train.data.prepared import PreparedClip
from train.decoder.job import FloatArray, cut


def clip_sound(clip: PreparedClip, rate: int, levelling: Levelling | None) -> FloatArray:
    """Returns [samples] at `rate`, within -1..1, as long as the prepared clip.

    Raises:
        InputError: the recording is gone, or is not the one that was prepared.
    """
    try:
        content = Path(clip.audio).read_bytes()
        recording = read_recording(content)
    except (OSError, AudioVoiceError) as error:
        why = error.message if isinstance(error, AudioVoiceError) else error.strerror
        raise InputError(
            f"The recording of {clip.name} can't be read any more ({why}): put it back, or run "
            "the command again without it.",
            param="DATA",
        ) from error
    if sha256_of_bytes(content) != clip.key:
        raise InputError(
            f"The recording of {clip.name} changed since it was prepared; run the command again.",
            param="DATA",
        )
    samples = torch.from_numpy(np.ascontiguousarray(recording.samples))
    sound = _resampled(samples, recording.sample_rate, rate).clip(-1, 1).numpy()
    wanted = round(clip.num_samples * rate / TRAINING_RATE)
    if levelling is None:
        return cut(sound, 0, wanted)
    heard = _resampled(samples, recording.sample_rate, TRAINING_RATE).clip(-1, 1).numpy()
    _, start_s = levelling.cut(heard, TRAINING_RATE)
    return levelling.level(cut(sound, round(start_s * rate), wanted)).clip(-1, 1)


def _resampled(samples: Tensor, source_rate: int, rate: int) -> Tensor:
    if source_rate == rate:
        return samples
    made: Tensor = torchaudio.functional.resample(samples, source_rate, rate)
    return made
