"""What a decoder learns from, computed once and kept on disk: latents, audio, speaker vectors.

A folder of three raw arrays and an index that is written last. Latents are float16 and audio is
16 bit, some 140 kB for a second of XTTS-v2. Knows files; the networks are in `preparing`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.errors import SettingsError
from app.files import write_atomic
from train.decoder.job import ClipParts, FloatArray

_INDEX, _LATENTS, _AUDIO, _SPEAKERS = "index.json", "latents.f16", "audio.s16", "speakers.f32"
_FULL_SCALE = 32767


@dataclass(frozen=True)
class StoredClip:
    """One clip: where its arrays begin, in latents and in samples.

    Attributes:
        num_latents: one more than its codes; so many of the true ones, then as many of drawn ones.
        num_samples: at the output's rate.
    """

    name: str
    side: str
    speaker: str
    first_latent: int
    num_latents: int
    first_sample: int
    num_samples: int


@dataclass(frozen=True)
class NewClip:
    """A clip to be stored.

    Attributes:
        true: latents [codes + 1, width] of its own codes.
        drawn: of codes that the GPT partly drew.
        audio: [samples] within -1..1.
    """

    name: str
    side: str
    speaker: str
    true: FloatArray
    drawn: FloatArray
    audio: FloatArray


class Material:
    """The clips of a folder.

    Args:
        folder: that `write_material` filled.

    Raises:
        SettingsError: it holds none, or a file is cut short.
    """

    def __init__(self, folder: Path) -> None:
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            self.identity = str(index["identity"])
            self.clips = tuple(StoredClip(**clip) for clip in index["clips"])
            self._latents = _opened(folder / _LATENTS, np.float16, int(index["width"]))
            self._audio = _opened(folder / _AUDIO, np.int16, 1)[:, 0]
            vectors = np.fromfile(folder / _SPEAKERS, np.float32)
            counts: dict[str, int] = index["speakers"]
            rows = vectors.reshape(sum(counts.values()), -1)
            last = self.clips[-1]
            _check_or_raise(len(self._latents) == last.first_latent + 2 * last.num_latents)
            _check_or_raise(len(self._audio) == last.first_sample + last.num_samples)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise SettingsError(
                f"{folder} can't be used ({error}); remove it and start again.",
                param="TRAIN_OUTPUT_DIR",
            ) from error
        ends = np.cumsum(list(counts.values()))
        self.speakers = dict(zip(counts, np.split(rows, ends[:-1]), strict=True))

    def side(self, side: str) -> list[StoredClip]:
        """Returns the clips to train on (`train`), or those that judge (`eval`)."""
        return [clip for clip in self.clips if clip.side == side]

    def latents(self, clip: StoredClip, *, drawn: bool) -> FloatArray:
        """Returns [codes + 1, width], of the clip's own codes or of partly drawn ones."""
        first = clip.first_latent + (clip.num_latents if drawn else 0)
        return self._latents[first : first + clip.num_latents].astype(np.float32)

    def audio(self, clip: StoredClip) -> FloatArray:
        """Returns [samples] at the output's rate."""
        end = clip.first_sample + clip.num_samples
        part: FloatArray = self._audio[clip.first_sample : end].astype(np.float32)
        part /= _FULL_SCALE
        return part

    def mean_speaker(self, speaker: str) -> FloatArray:
        """Returns the speaker's mean vector, of length one, as a hand-over stores it."""
        mean = self.speakers[speaker].mean(axis=0)
        made: FloatArray = (mean / np.linalg.norm(mean)).astype(np.float32)
        return made


class MaterialClips:
    """The clips to learn from, as a source of segments (`train.decoder.job.ClipSource`).

    A voice is spoken with the vector of one reference clip, or with the mean of several: both are
    drawn, each half of the time, the clip from other recordings of the speaker as well. And half of
    the time the latents are of codes that the GPT partly drew, as all are when it speaks.

    Args:
        material: all clips.
        num_codes: of a segment; shorter clips are left out.
        delay: codes that latents are behind the audio.

    Raises:
        SettingsError: every clip is shorter than a segment.
    """

    def __init__(self, material: Material, num_codes: int, delay: int) -> None:
        self._material = material
        self.clips = [clip for clip in material.side("train") if clip.num_latents > num_codes]
        if not self.clips:
            raise SettingsError(
                f"DECODER_SEGMENT_S: no clip has {num_codes} codes; set a shorter segment.",
                param="DECODER_SEGMENT_S",
            )
        mass = np.array([clip.num_latents for clip in self.clips], dtype=np.float64)
        self.chances: npt.NDArray[np.float64] = mass / mass.sum()
        self.delay = delay

    def read(self, index: int, rng: np.random.Generator) -> ClipParts:
        """Returns a clip with latents of one kind and a vector of its speaker."""
        clip = self.clips[index]
        known = self._material.speakers[clip.speaker]
        chosen = int(rng.integers(2 * len(known)))
        vector = known[chosen] if chosen < len(known) else self._material.mean_speaker(clip.speaker)
        latents = self._material.latents(clip, drawn=bool(rng.integers(2)))
        return ClipParts(latents, self._material.audio(clip), vector)


def write_material(
    folder: Path,
    identity: str,
    clips: Iterable[NewClip],
    speakers: Mapping[str, Sequence[FloatArray]],
) -> Material:
    """Writes clips as they come, the index last; returns them.

    Args:
        folder: what was in it is replaced.
        identity: of all that decides what is stored.
        clips: at least one.
        speakers: vectors of each speaker's recordings.

    Raises:
        SettingsError: the disk is full or the folder can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _INDEX).unlink(missing_ok=True)
        stored, width = _write_clips(folder, clips)
        rows = np.stack([vector for vectors in speakers.values() for vector in vectors])
        (folder / _SPEAKERS).write_bytes(rows.astype(np.float32).tobytes())
        index = {
            "identity": identity,
            "width": width,
            "speakers": {name: len(vectors) for name, vectors in speakers.items()},
            "clips": [asdict(clip) for clip in stored],
        }
        write_atomic(folder / _INDEX, json.dumps(index).encode())
    except OSError as error:
        raise SettingsError(
            f"TRAIN_OUTPUT_DIR: {folder} can't be written to ({error.strerror}); make room or name "
            "another folder.",
            param="TRAIN_OUTPUT_DIR",
        ) from error
    return Material(folder)


def stored_identity(folder: Path) -> str:
    """Returns the identity of what a folder holds; empty where it holds nothing whole."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return str(index["identity"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_clips(folder: Path, clips: Iterable[NewClip]) -> tuple[list[StoredClip], int]:
    stored: list[StoredClip] = []
    latents = samples = width = 0
    with (folder / _LATENTS).open("wb") as features, (folder / _AUDIO).open("wb") as sounds:
        for clip in clips:
            width = clip.true.shape[1]
            for kind in (clip.true, clip.drawn):
                features.write(kind.astype(np.float16).tobytes())
            sounds.write((clip.audio.clip(-1, 1) * _FULL_SCALE).round().astype(np.int16).tobytes())
            stored.append(
                StoredClip(
                    clip.name,
                    clip.side,
                    clip.speaker,
                    latents,
                    len(clip.true),
                    samples,
                    len(clip.audio),
                )
            )
            latents += len(clip.true) + len(clip.drawn)
            samples += len(clip.audio)
    return stored, width


def _opened(path: Path, kind: type[np.generic], width: int) -> npt.NDArray[np.generic]:
    array: npt.NDArray[np.generic] = np.memmap(path, kind, "r").reshape(-1, width)
    return array


def _check_or_raise(fits: bool) -> None:
    if not fits:
        raise ValueError("a file is cut short")
