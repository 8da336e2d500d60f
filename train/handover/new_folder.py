"""The folder of a new model: free, whole or not there at all, and errors that say what to do.

Knows names and folders; nothing of what is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import SettingsError
from train.bundle_files import publishing


def check_free_or_raise(target: Path, *, naming: str = "--to", param: str = "MODELS_DIR") -> None:
    """Looks whether a model may be written there.

    Args:
        target: its folder.
        naming: how another one is named.
        param: the setting at fault.

    Raises:
        SettingsError: something is there already.
    """
    if target.exists():
        raise _exists(target, naming, param)


@contextmanager
def publishing_new(
    target: Path, *, naming: str = "--to", param: str = "MODELS_DIR"
) -> Iterator[Path]:
    """Yields a hidden folder that becomes `target` when the block ends; see `publishing`.

    Raises:
        SettingsError: `target` exists, or can't be written.
    """
    check_free_or_raise(target, naming=naming, param=param)
    try:
        with publishing(target, replace=False) as made:
            yield made
    except FileExistsError as error:
        raise _exists(target, naming, param) from error
    except OSError as error:
        raise SettingsError(
            f"{target} can't be written ({error.strerror}): make room, change the rights of "
            f"{target.parent}, or name another folder with --to.",
            param="MODELS_DIR",
        ) from error


def _exists(target: Path, naming: str, param: str) -> SettingsError:
    return SettingsError(
        f"{target} exists already and is left as it is: name another folder with {naming}, or "
        "remove it first.",
        param=param,
    )
