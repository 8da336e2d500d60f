"""One voice's folder: written whole under a hidden name, read with every fault named.

    voice.json      name, consent, language, hash of each clip
    clips/0.flac    16-bit mono FLAC at the clip's own rate

Knows the layout; nothing of which voices there are.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from app.files import sync_folder
from app.voices.names import is_voice_id, voice_id_of
from app.voices.record import LAYOUT, VoiceRecord

RECORD_FILE = "voice.json"
CLIP_FILE = "clips/0.flac"

_NEW_PREFIX = ".new-"
_GONE_PREFIX = ".gone-"
_DAMAGED_PREFIX = ".damaged-"
#: A hidden folder older than this was left by a process that died.
_STALE_S = 3600.0


def voice_folders(root: Path) -> list[Path]:
    """Returns the folders under `root` that should hold a voice; none if there is no `root`."""
    try:
        with os.scandir(root) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []


def publish_voice(root: Path, record: VoiceRecord, flac: bytes) -> bool:
    """Makes the voice's folder appear whole; False if one of that id was there first.

    Args:
        root: the folder of all voices, which exists.
        record: what `voice.json` is to hold.
        flac: the content of its one clip.
    """
    new = root / f"{_NEW_PREFIX}{secrets.token_hex(8)}"
    clip = new / CLIP_FILE
    try:
        clip.parent.mkdir(parents=True)
        _write_durable(clip, flac)
        _write_durable(new / RECORD_FILE, msgspec.json.format(msgspec.json.encode(record)))
        sync_folder(clip.parent)
        sync_folder(new)
        new.rename(root / record.id)
        sync_folder(root)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
            return False
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return True


def remove_voice(folder: Path) -> None:
    """Makes the folder vanish at once, then removes what was in it; it may be gone already."""
    gone = folder.with_name(f"{_GONE_PREFIX}{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        folder.rename(gone)
        sync_folder(folder.parent)
        shutil.rmtree(gone, ignore_errors=True)


def set_aside(folder: Path) -> Path:
    """Renames a damaged folder out of the way, keeps its content, and returns where it is."""
    aside = folder.with_name(f"{_DAMAGED_PREFIX}{folder.name}-{secrets.token_hex(4)}")
    folder.rename(aside)
    return aside


def remove_stale(root: Path) -> None:
    """Removes what processes that died while they wrote or deleted have left."""
    for prefix in (_NEW_PREFIX, _GONE_PREFIX):
        for path in root.glob(f"{prefix}*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_S:
                    shutil.rmtree(path, ignore_errors=True)


def parse_voice(folder: Path) -> tuple[VoiceRecord | None, str]:
    """Returns the folder's record and "", or None and what is wrong with it."""
    try:
        record = msgspec.json.decode((folder / RECORD_FILE).read_bytes(), type=VoiceRecord)
    except FileNotFoundError:
        return None, f"it has no {RECORD_FILE}"
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        return None, f"its {RECORD_FILE} can't be read ({error})"
    fault = _fault_of(record, folder)
    return (None, fault) if fault else (record, "")


def _fault_of(record: VoiceRecord, folder: Path) -> str:
    if record.layout > LAYOUT:
        return f"it has layout {record.layout}, and this program knows up to {LAYOUT}"
    if is_voice_id(record.name) or voice_id_of(record.name) != record.id:
        return "its id does not belong to its name"
    if record.id != folder.name:
        return "it lies in a folder that is not its own"
    if not record.consent.strip():
        return "it has no consent"
    if not record.clips:
        return "it has no clip"
    return next((fault for clip in record.clips if (fault := _clip_fault(folder, clip.file))), "")


def _clip_fault(folder: Path, file: str) -> str:
    path = Path(file)
    if path.is_absolute() or ".." in path.parts:
        return f"its clip {file!r} lies outside its folder"
    return "" if (folder / path).is_file() else f"its clip {file!r} is missing"


def _write_durable(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
