"""What a training loop reads: clips whose texts, codes and mels were made before.

Nothing here decodes audio or makes a spectrum; arrays are views into mapped files. Needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from app.errors import InputError, SettingsError
from app.files import sha256_of_bytes, write_atomic
from train.data.shards import ClipArrays, Shard

FORMAT = 1
Side = Literal["train", "eval"]
#: What frames of nothing have in a log-mel (the floor of both front ends): for padding.
SILENCE_LOG_MEL = float(np.log(1e-5))


@dataclass(frozen=True)
class PreparedClip:
    """One clip, without its arrays.

    Attributes:
        key: hash of the recording; `shard` names the file with its arrays.
        token_ids: of the text, language token first, without start and stop.
        num_samples: at 22.05 kHz; `num_codes` = ceil(num_samples / stride), no start and stop;
            `num_frames` = 1 + num_samples // 256.
        audio: the recording itself, for listening to; training never opens it.
    """

    name: str
    side: Side
    speaker: str
    language: str
    text: str
    spoken: str
    token_ids: tuple[int, ...]
    num_samples: int
    num_codes: int
    num_frames: int
    key: str
    shard: str
    audio: str

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / 22050

    @property
    def num_positions(self) -> int:
        """Positions of the clip in the GPT: text and codes, each with start and stop."""
        return len(self.token_ids) + 2 + self.num_codes + 2


@dataclass(frozen=True)
class PreparedFor:
    """The model that the clips were prepared for; another one needs them prepared anew."""

    base_model: str
    vocab_sha256: str
    codes_identity: str
    stride: int
    num_codes: int


class PreparedClips(Sequence[PreparedClip]):
    """All prepared clips of a run, those to train on first, each side in its fixed order.

    Can be pickled (for loader processes); maps are opened by whoever reads.
    """

    def __init__(self, path: Path, made_for: PreparedFor, clips: Sequence[PreparedClip]) -> None:
        self.path = path
        self.made_for = made_for
        self._clips = tuple(clips)
        self._folder = path.parent
        self._shards: dict[str, Shard] = {}
        self._seen: set[str] = set()

    @classmethod
    def open(cls, path: Path) -> PreparedClips:
        """Opens what `prepare` wrote.

        Raises:
            SettingsError: the file is missing, damaged or of another version.
        """
        try:
            return cls(path, *_read_list(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(
                f"{path} can't be used ({error}); run `python -m train prepare` again.",
                param="TRAIN_CACHE_DIR",
            ) from error

    @classmethod
    def write(
        cls, folder: Path, made_for: PreparedFor, clips: Sequence[PreparedClip]
    ) -> PreparedClips:
        """Writes the list of clips beside their shards, whole or not at all, and returns them.

        The file is named by what it holds: runs on the same clips share it, others don't meet.
        """
        name = f"run-{_identity_of(made_for, clips)[:16]}.json"
        prepared = cls(folder / name, made_for, clips)
        content = {
            "format": FORMAT,
            "made_for": asdict(made_for),
            "clips": [asdict(clip) for clip in clips],
        }
        write_atomic(prepared.path, json.dumps(content, ensure_ascii=False, indent=0).encode())
        return prepared

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: Any) -> Any:
        return self._clips[index]

    def __iter__(self) -> Iterator[PreparedClip]:
        return iter(self._clips)

    def side(self, side: Side) -> list[PreparedClip]:
        """Returns the clips to train on, or those that judge."""
        return [clip for clip in self._clips if clip.side == side]

    @cached_property
    def identity(self) -> str:
        """Hex SHA-256 of all that a loop gets to see; the same after preparing again."""
        return _identity_of(self.made_for, self._clips)

    def codes(self, clip: PreparedClip) -> npt.NDArray[np.int64]:
        """Returns the audio codes [num_codes], without start and stop.

        Raises:
            InputError: the clip's arrays are damaged or gone; code `cache_damaged`.
        """
        return self._arrays(clip).codes.astype(np.int64)

    def style_mel(
        self, clip: PreparedClip, start: int = 0, num_frames: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Returns a stretch of the conditioning encoder's log-mel, [80, frames].

        Args:
            clip: of these clips.
            start: first frame; a frame is 256 samples at 22.05 kHz.
            num_frames: fewer come back at the end of the clip; None: all.

        Returns:
            Not divided by `mel_stats`; pad with `SILENCE_LOG_MEL`.

        Raises:
            InputError: as `codes`.
        """
        return _stretch(self._arrays(clip).style_mel, start, num_frames)

    def code_mel(
        self, clip: PreparedClip, start: int = 0, num_frames: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Returns a stretch of the DVAE's log-mel, [80, frames]; see `style_mel`."""
        return _stretch(self._arrays(clip).code_mel, start, num_frames)

    def fault_of(self, clip: PreparedClip) -> str:
        """Returns what is wrong with a clip's arrays in a sentence; empty where nothing is."""
        try:
            self._arrays(clip)
        except InputError as error:
            return error.message
        return ""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_shards": {}, "_seen": set()}

    def _arrays(self, clip: PreparedClip) -> ClipArrays:
        """Returns a clip's arrays; the first time in a process, they are compared with their sum.

        A clip costs some 0.1 ms to check, and damaged memory or disk would otherwise be learnt.
        """
        shard = self._shards.get(clip.shard) or self._open_shard(clip.shard)
        if shard is None or not (clip.key in self._seen or shard.is_whole(clip.key)):
            raise InputError(
                f"The prepared arrays of {clip.name} are damaged or gone; run "
                "`python -m train prepare` to make them again.",
                param="TRAIN_CACHE_DIR",
                code="cache_damaged",
            )
        self._seen.add(clip.key)
        return shard.read(clip.key)

    def _open_shard(self, name: str) -> Shard | None:
        try:
            shard = self._shards[name] = Shard(self._folder / name)
        except InputError:
            return None
        return shard


def _read_list(path: Path) -> tuple[PreparedFor, list[PreparedClip]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["format"] != FORMAT:
        raise ValueError(f"it has format {content['format']}, not {FORMAT}")
    rows = ({**row, "token_ids": tuple(row["token_ids"])} for row in content["clips"])
    return PreparedFor(**content["made_for"]), [PreparedClip(**row) for row in rows]


def _identity_of(made_for: PreparedFor, clips: Sequence[PreparedClip]) -> str:
    rows = [(c.name, c.key, c.side, c.token_ids, c.num_codes, c.speaker) for c in clips]
    written = json.dumps([asdict(made_for), rows], ensure_ascii=False)
    return sha256_of_bytes(written.encode())


def _stretch(
    mel: npt.NDArray[np.float16], start: int, num_frames: int | None
) -> npt.NDArray[np.float32]:
    end = None if num_frames is None else start + num_frames
    return np.ascontiguousarray(mel[start:end].T, dtype=np.float32)
