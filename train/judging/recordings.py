"""Recordings that speech is held against: of the voice's own speaker, and of others.

Knows a folder in LJSpeech form (`wavs/` or `clips/` of audio files, or the files themselves).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch

from app.errors import SettingsError
from train.judging.speaking import Samples
from train.mels import resample

RATE = 24000
_SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
_CLIPS_OF_OTHERS = 60


@dataclass(frozen=True)
class Recordings:
    """Samples [n] at 24 kHz."""

    own: dict[str, Samples] = field(default_factory=dict)
    """Recordings of the sentences that are spoken, by sentence name."""
    others: dict[str, list[Samples]] = field(default_factory=dict)
    """Recordings of other speakers, by speaker."""


def read_recordings(names: Sequence[str], own: Path | None, others: Sequence[Path]) -> Recordings:
    """Reads the recordings of the named sentences, and some of each other speaker.

    Args:
        names: of the sentences, which are the files' names without suffix.
        own: folder of the voice's own speaker.
        others: one folder for each other speaker.

    Raises:
        SettingsError: a folder holds no audio, or none of the sentences.
    """
    found: dict[str, Samples] = {}
    if own is not None:
        files = {path.stem: path for path in _audio_files(own)}
        found = {name: read_clip(files[name]) for name in names if name in files}
        if not found:
            raise SettingsError(
                f"{own} has no recording of these sentences: the files must be named as the "
                f"sentences are, as {names[0] if names else 'a0001'}.wav."
            )
    return Recordings(found, {folder.name: read_some(folder) for folder in others})


def read_some(folder: Path, limit: int = _CLIPS_OF_OTHERS) -> list[Samples]:
    """Returns at most `limit` recordings of a folder, spread over all of them.

    Raises:
        SettingsError: the folder holds no audio.
    """
    files = _audio_files(folder)
    return [read_clip(path) for path in files[:: max(1, len(files) // limit)][:limit]]


def read_clip(path: Path) -> Samples:
    """Returns a file as mono samples [n] at 24 kHz.

    Raises:
        SettingsError: the file can't be read.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise SettingsError(f"{path} can't be read ({error}); remove or mend it.") from error
    mono = torch.from_numpy(np.ascontiguousarray(samples.mean(1)))
    made: Samples = resample(mono, rate, RATE).numpy()
    return made


def _audio_files(folder: Path) -> list[Path]:
    places = [folder / "wavs", folder / "clips", folder]
    for place in places:
        if place.is_dir():
            files = sorted(p for p in place.iterdir() if p.suffix.lower() in _SUFFIXES)
            if files:
                return files
    raise SettingsError(f"{folder} holds no audio; name a folder with wavs/ or audio files.")
