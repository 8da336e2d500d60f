"""The uploaded voices on disk: one folder each, that is there whole or not at all.

A folder's name follows from the voice's name, so the rename that publishes it decides who is
first. Every process that has the folder sees the same voices, for they are listed from disk each
time.

Knows files and clips; nothing of models, of conditioning or of HTTP.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.audio.clip import Clip
from app.audio.encode import encode_whole
from app.audio.pcm import to_s16
from app.errors import ConflictError, InputError, ModelFileError, NotFoundError, RefusedError
from app.files import sha256_of_bytes
from app.voices.folder import (
    CLIP_FILE,
    RECORD_FILE,
    parse_voice,
    publish_voice,
    remove_stale,
    remove_voice,
    set_aside,
    voice_folders,
)
from app.voices.names import check_voice_name, voice_id_of
from app.voices.record import StoredClip, VoiceRecord

__all__ = ["VoiceRecord", "VoiceStore"]

_LOCK_FILE = ".lock"

#: Tells whether a file or folder is still the one that was read: inode, time and size.
_Stamp = tuple[int, int, int]

_log = logging.getLogger(__name__)


class VoiceStore:
    """The voices under one folder. Safe to share between threads, and with other processes.

    Args:
        root: the folder; made with the first voice.
        max_voices: most voices kept.
    """

    def __init__(self, root: Path, max_voices: int) -> None:
        self._root = root
        self._max_voices = max_voices
        self._seen: dict[str, tuple[_Stamp | None, VoiceRecord | None]] = {}

    def add(
        self, name: str, clip: Clip, *, consent: str, language: str = "", ref_text: str = ""
    ) -> VoiceRecord:
        """Stores a voice.

        Args:
            name: letters of any script, digits, spaces and . _ - (see `names`).
            clip: the reference recording; kept as 16-bit FLAC.
            consent: who agreed to the use of the voice, and how; kept word for word.
            language: code of what the clip says, or "".
            ref_text: what the clip says, or "".

        Raises:
            InputError: the name can't be used.
            RefusedError: the consent is empty.
            ConflictError: the name is taken, or `max_voices` are stored.
        """
        name = check_voice_name(name)
        if not consent.strip():
            raise RefusedError(
                "consent is empty: say who agreed that this voice is cloned, and how.",
                param="consent",
                code="consent_missing",
            )
        flac = encode_whole("flac", clip.sample_rate, to_s16(clip.samples))
        stored = StoredClip(CLIP_FILE, sha256_of_bytes(flac), clip.duration_s, clip.sample_rate)
        record = VoiceRecord(
            id=voice_id_of(name),
            name=name,
            created_at=time.time(),
            consent=consent,
            language=language,
            ref_text=ref_text,
            clips=(stored,),
        )
        self._root.mkdir(parents=True, exist_ok=True)
        with self._lock():
            remove_stale(self._root)
            self._make_room(record)
            if not publish_voice(self._root, record, flac):
                raise _taken(name)
        return record

    def list(self) -> list[VoiceRecord]:
        """Returns every voice by name, as the disk has them now.

        A folder that can't be read is named in the log and left out. Files that have not changed
        since the last call are not read again.
        """
        records = [record for path in voice_folders(self._root) if (record := self._read(path))]
        return sorted(records, key=lambda record: record.name.casefold())

    def get(self, name: str) -> VoiceRecord:
        """Returns the voice of that name or id; the case of the name does not matter.

        Raises:
            NotFoundError: there is none.
        """
        record = self._read(self._root / voice_id_of(name))
        if record is None:
            raise NotFoundError(
                f"There is no uploaded voice {name[:100]!r}: see GET /v1/audio/voices for those"
                " there are.",
                param="voice",
                code="voice_not_found",
            )
        return record

    def delete(self, name: str) -> None:
        """Deletes the voice of that name or id: its clip, its consent, everything in its folder.

        Raises:
            NotFoundError: there is none.
        """
        record = self.get(name)
        with self._lock():
            remove_voice(self._root / record.id)
        self._seen.pop(record.id, None)

    def read_clip(self, name: str) -> Clip:
        """Returns the reference clip of a voice, as it was stored.

        Raises:
            NotFoundError: there is no such voice.
            ModelFileError: its file is missing or is not the one that was stored.
        """
        # FFmpeg's libraries are loaded by the first clip that is read, not at the start.
        from app.audio.decode import decode_clip

        record = self.get(name)
        clip = record.clips[0]
        path = self._root / record.id / clip.file
        data = path.read_bytes() if path.is_file() else b""
        if sha256_of_bytes(data) != clip.sha256:
            raise _damaged(record, path)
        try:
            return decode_clip(data, max_s=clip.duration_s + 1.0, min_s=0.0)
        except InputError as error:
            raise _damaged(record, path) from error

    def _read(self, folder: Path) -> VoiceRecord | None:
        """Returns what the folder holds; None if that is no voice, which a log line says once."""
        before = _stamp_of(folder)
        if before is None:
            self._seen.pop(folder.name, None)
            return None
        stamp = _stamp_of(folder / RECORD_FILE)
        seen = self._seen.get(folder.name)
        if seen is not None and seen[0] == stamp:
            return seen[1]
        record, fault = parse_voice(folder)
        if fault and _stamp_of(folder) != before:
            return None  # it was deleted while it was read, and is not damaged
        if fault:
            _log.warning("%s is left out: %s; upload the voice again", folder, fault)
        self._seen[folder.name] = (stamp, record)
        return record

    def _make_room(self, record: VoiceRecord) -> None:
        """Sets a damaged voice of this name aside.

        Raises:
            ConflictError: the name is taken, or no more voices are kept.
        """
        folder = self._root / record.id
        if self._read(folder) is not None:
            raise _taken(record.name)
        if len(self.list()) >= self._max_voices:
            raise ConflictError(
                f"The service holds its most voices ({self._max_voices}): delete one, or raise"
                " MAX_VOICES.",
                param="name",
                code="too_many_voices",
            )
        if folder.exists():
            _log.warning("%s is damaged and set aside as %s", folder, set_aside(folder))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Holds off every other thread and process that changes the folder."""
        handle = os.open(self._root / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _taken(name: str) -> ConflictError:
    return ConflictError(
        f"There is a voice named {name!r} already: choose another name, or delete that one first.",
        param="name",
    )


def _damaged(record: VoiceRecord, path: Path) -> ModelFileError:
    return ModelFileError(
        f"The clip of the voice {record.name!r} ({path}) is missing or damaged: delete the voice"
        " and upload it again.",
        param="voice",
        code="voice_damaged",
    )
