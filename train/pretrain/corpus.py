"""The prepared speech of a recipe: flat arrays on disk and one record for each clip.

Audio lies at 24 kHz, both log-mels at hop 256 of 22.05 kHz. Knows the layout; `data` fills it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.files import write_atomic
from train.mels import HOP, MEL_RATE, NUM_MELS

AUDIO_RATE = 24000
FRAME_S = HOP / MEL_RATE

_AUDIO = "audio.s16"
_CODE_MELS = "code_mels.f16"
_STYLE_MELS = "style_mels.f16"
_CLIPS = "clips.json"


@dataclass(frozen=True)
class Clip:
    """One spoken sentence and where its arrays lie."""

    name: str
    speaker: str
    text: str
    phonemes: str
    held_out: bool
    audio_start: int
    num_samples: int
    frame_start: int
    num_frames: int
    #: middle of each symbol in seconds; empty where unknown
    times: tuple[float, ...] = ()
    #: speed at which the recording was played; 1: as it is
    speed: float = 1.0


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence before it is stored."""

    name: str
    speaker: str
    text: str
    phonemes: str
    held_out: bool
    audio: npt.NDArray[np.int16]
    code_mel: npt.NDArray[np.float16]
    style_mel: npt.NDArray[np.float16]
    times: tuple[float, ...]
    speed: float = 1.0


class Corpus:
    """Reads what `write_corpus` wrote; arrays stay on disk and are mapped."""

    def __init__(self, folder: Path) -> None:
        records = json.loads((folder / _CLIPS).read_text(encoding="utf-8"))
        self.clips = [Clip(**{**item, "times": tuple(item["times"])}) for item in records]
        self._audio = np.memmap(folder / _AUDIO, np.int16, "r")
        self._code_mels = np.memmap(folder / _CODE_MELS, np.float16, "r").reshape(-1, NUM_MELS)
        self._style_mels = np.memmap(folder / _STYLE_MELS, np.float16, "r").reshape(-1, NUM_MELS)

    @property
    def speakers(self) -> list[str]:
        """Names of all speakers, in order of first clip."""
        return list(dict.fromkeys(clip.speaker for clip in self.clips))

    def audio(self, clip: Clip) -> npt.NDArray[np.float32]:
        """Returns the samples in [-1, 1] at 24 kHz."""
        part = self._audio[clip.audio_start : clip.audio_start + clip.num_samples]
        return part.astype(np.float32) / 32768.0

    def code_mel(self, clip: Clip) -> npt.NDArray[np.float32]:
        """Returns the DVAE's log-mel [frames, 80]."""
        part = self._code_mels[clip.frame_start : clip.frame_start + clip.num_frames]
        return part.astype(np.float32)

    def style_mel(self, clip: Clip) -> npt.NDArray[np.float32]:
        """Returns the conditioning encoder's log-mel [frames, 80]."""
        part = self._style_mels[clip.frame_start : clip.frame_start + clip.num_frames]
        return part.astype(np.float32)

    def all_code_mels(self) -> npt.NDArray[np.float16]:
        """Returns every clip's DVAE log-mel in one mapped array [frames, 80]."""
        return self._code_mels

    def select(
        self, *, held_out: bool, speaker: str | None = None, altered: bool = False
    ) -> list[Clip]:
        """Returns the clips of one split, of one speaker or all.

        Recordings played at another speed are left out unless `altered` ones are asked for too.
        """
        return [
            clip
            for clip in self.clips
            if clip.held_out == held_out
            and speaker in (None, clip.speaker)
            and (altered or clip.speed == 1.0)
        ]


def corpus_exists(folder: Path) -> bool:
    """Tells whether `write_corpus` finished here (the records are written last)."""
    return (folder / _CLIPS).is_file()


def write_corpus(folder: Path, utterances: Iterator[Utterance]) -> int:
    """Writes all utterances and returns their number."""
    folder.mkdir(parents=True, exist_ok=True)
    clips: list[Clip] = []
    samples = frames = 0
    with (
        (folder / _AUDIO).open("wb") as audio,
        (folder / _CODE_MELS).open("wb") as code_mels,
        (folder / _STYLE_MELS).open("wb") as style_mels,
    ):
        for item in utterances:
            clips.append(
                Clip(
                    name=item.name,
                    speaker=item.speaker,
                    text=item.text,
                    phonemes=item.phonemes,
                    held_out=item.held_out,
                    audio_start=samples,
                    num_samples=len(item.audio),
                    frame_start=frames,
                    num_frames=len(item.code_mel),
                    times=item.times,
                    speed=item.speed,
                )
            )
            audio.write(item.audio.tobytes())
            code_mels.write(item.code_mel.tobytes())
            style_mels.write(item.style_mel.tobytes())
            samples += len(item.audio)
            frames += len(item.code_mel)
    content = json.dumps([asdict(clip) for clip in clips], ensure_ascii=False)
    write_atomic(folder / _CLIPS, content.encode())
    return len(clips)
