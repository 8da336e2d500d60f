"""The folder of shards that belong to one way of computing: what is there, and adding to it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.errors import InputError
from app.files import sha256_of_bytes, write_atomic
from train.data.shards import SUFFIX, ClipArrays, Shard, write_shard

#: A shard is written when so much is waiting, or so long after the one before: what a sudden end
#: costs is at most that.
_SHARD_BYTES = 64_000_000
_SHARD_S = 30.0
_LEFTOVER_S = 3600.0
_log = logging.getLogger(__name__)


class ClipCache:
    """Arrays of clips, by the hash of the recording.

    Args:
        root: of all caches.
        settings: plain values that decide what is computed; another folder for other values.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        written = json.dumps(dict(settings), sort_keys=True, indent=1)
        self.folder = root / sha256_of_bytes(written.encode())[:16]
        self._where: dict[str, list[Shard]] = {}
        self._waiting: dict[str, ClipArrays] = {}
        self._num_waiting_bytes = 0
        self._last_written = time.monotonic()
        if not (self.folder / "settings.json").is_file():
            write_atomic(self.folder / "settings.json", written.encode())
        self._remove_leftovers()
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            self._open(path)

    def find(self, key: str) -> Shard | None:
        """Returns the shard that holds a clip whole, or None; damage is named in the log."""
        for shard in self._where.get(key, []):
            if shard.is_whole(key):
                return shard
            _log.warning("A clip in %s is damaged and is computed again.", shard.path)
        return None

    def add(self, key: str, arrays: ClipArrays) -> None:
        """Takes a clip; it is on disk after the next `flush`, or sooner."""
        self._waiting[key] = arrays
        self._num_waiting_bytes += arrays.num_bytes
        is_late = time.monotonic() - self._last_written >= _SHARD_S
        if is_late or self._num_waiting_bytes >= _SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is waiting.

        Raises:
            SettingsError: the disk is full or the folder can't be written to.
        """
        if self._waiting:
            self._open(write_shard(self.folder, self._waiting))
            self._waiting = {}
            self._num_waiting_bytes = 0
        self._last_written = time.monotonic()

    def _remove_leftovers(self) -> None:
        """Removes what a killed process left half written; a young file may be somebody's work."""
        for path in self.folder.glob(".*.part"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_S:
                    path.unlink()

    def _open(self, path: Path) -> None:
        try:
            shard = Shard(path)
        except InputError:
            _log.warning("%s is damaged; its clips are computed again.", path)
            path.unlink(missing_ok=True)
            return
        for key in shard.keys:
            # What was written last comes first: it may stand in for what was damaged.
            self._where.setdefault(key, []).insert(0, shard)
