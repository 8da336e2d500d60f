"""Which model an alias was handed to, and which ones had it before: one small file.

Kept beside the models it speaks of, so that it lives and moves with them. Knows names only, not
whether such models exist. Needs no torch.
"""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from app.errors import UnavailableError
from app.files import write_atomic

ALIASES_FILE = "aliases.json"
#: Models that an alias remembers having had; older ones can still be promoted by name.
_MAX_PREVIOUS = 10

_log = logging.getLogger(__name__)


class HandedAlias(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An alias that was handed over: its model, and the earlier ones, the last one last.

    An empty name among `previous` stands for what the settings say.
    """

    model: str
    previous: tuple[str, ...] = ()
    changed_at: str = ""  # ISO 8601, UTC


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int = 1
    aliases: dict[str, HandedAlias] = {}


class AliasFile:
    """The file `aliases.json`. Each reading sees what any process has written last.

    Args:
        path: where it lies; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._aliases: dict[str, HandedAlias] = {}

    def read(self) -> dict[str, HandedAlias]:
        """Returns all handed aliases; none where the file is damaged, which the log says once."""
        try:
            seen = self._path.stat()
        except OSError:
            self._stamp, self._aliases = None, {}
            return {}
        stamp = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
        if stamp != self._stamp:
            self._stamp, self._aliases = stamp, self._parse()
        return dict(self._aliases)

    def point(self, alias: str, model: str) -> None:
        """Hands an alias to a model and remembers what it stood for.

        Raises:
            UnavailableError: the file can't be written; nothing has changed.
        """
        had = self.read().get(alias)
        if had is not None and had.model == model:
            return
        previous = (*had.previous, had.model) if had else ("",)
        self._write(alias, HandedAlias(model, previous[-_MAX_PREVIOUS:], _now()))

    def roll_back(self, alias: str) -> None:
        """Gives an alias back to what it stood for before its last change.

        Raises:
            UnavailableError: the file can't be written; nothing has changed.
        """
        had = self.read()[alias]
        before = had.previous[-1] if had.previous else ""
        rest = HandedAlias(before, had.previous[:-1], _now()) if before else None
        self._write(alias, rest)

    def _write(self, alias: str, handed: HandedAlias | None) -> None:
        aliases = self.read()
        aliases.pop(alias, None)
        if handed is not None:
            aliases[alias] = handed
        data = msgspec.json.format(msgspec.json.encode(_State(aliases=aliases)), indent=2)
        try:
            write_atomic(self._path, data + b"\n")
        except OSError as error:
            raise UnavailableError(
                f"{self._path} can't be written ({error.strerror}): make MODELS_DIR writable for "
                "this user, and try again.",
                code="aliases_not_written",
            ) from error

    def _parse(self) -> dict[str, HandedAlias]:
        try:
            return dict(msgspec.json.decode(self._path.read_bytes(), type=_State).aliases)
        except (OSError, msgspec.DecodeError) as error:
            _log.error(
                "%s can't be read (%s): every alias means what the settings say. Mend the file, or "
                "promote the models again.",
                self._path,
                error,
            )
            return {}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
