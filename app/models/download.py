"""Fetches XTTS-v2 from the Hugging Face hub, resumed where it broke off, checked, and whole.

Files gather in a hidden folder beside the target, which is renamed onto it when every file has
the hash that the hub states. Never prompts: without the setting that accepts the licence it
refuses. Errors of the hub's client are mapped here and nowhere else. Needs no torch.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from app.errors import ModelFileError, NotFoundError, RefusedError, UnavailableError
from app.files import sha256_of_file, sync_folder
from app.models.bundles import SOURCE_FILE, XTTS_V2, XTTS_V2_LICENCE
from app.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubSource:
    """A model on the hub: which files of which state of which repository."""

    repo: str
    revision: str
    licence: str
    licence_url: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


#: Pinned, so that the files cannot change between two machines.
XTTS_V2_SOURCE = HubSource(
    repo="coqui/XTTS-v2",
    revision="6c2b0d75eae4b7047358e3b6bd9325f857d43f77",
    licence=XTTS_V2_LICENCE,
    licence_url="https://huggingface.co/coqui/XTTS-v2/blob/main/LICENSE.txt",
    required=("model.pth", "config.json", "vocab.json"),
    optional=("speakers_xtts.pth", "LICENSE.txt"),
)


def fetch_model(
    name: str,
    settings: Settings,
    *,
    source: HubSource = XTTS_V2_SOURCE,
    endpoint: str | None = None,
) -> Path:
    """Fetches a model into MODELS_DIR and returns its folder; at once if it is there already.

    Shows a progress bar on stderr. A broken download is resumed by the next call. Several
    processes may call it: one fetches, the others wait.

    Args:
        name: `xtts-v2`.
        settings: MODELS_DIR and COQUI_TOS_AGREED are read.
        source: where it comes from.
        endpoint: address of the hub; the client's own (HF_ENDPOINT) if None.

    Raises:
        NotFoundError: another name than `xtts-v2`.
        RefusedError: the licence is not accepted.
        UnavailableError: no connection, it broke off, or the disk is too full.
        ModelFileError: the hub lacks a file, or one arrived with another hash than it states.
    """
    if name != XTTS_V2:
        raise NotFoundError(f"Only {XTTS_V2} can be fetched, not {name!r}.", param="name")
    target = settings.models_dir / name
    if target.exists():
        return target
    check_licence(settings, source)
    settings.models_dir.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(settings.models_dir / f".{name}.lock"):
        if not target.exists():
            partial = _partial_folder(name, settings)
            hashes = _fetch_all(source, partial, endpoint)
            _publish(partial, target, source, hashes)
    return target


def fetched_bytes(name: str, settings: Settings) -> int:
    """Returns how much of a model's download lies on the disk so far, in bytes."""
    return _size_of(_partial_folder(name, settings))


def _partial_folder(name: str, settings: Settings) -> Path:
    return settings.models_dir / f".{name}.partial"


def _size_of(folder: Path) -> int:
    sizes = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # the client renames files as they are completed
            sizes.append(path.stat().st_size if path.is_file() else 0)
    return sum(sizes)


def check_licence(settings: Settings, source: HubSource = XTTS_V2_SOURCE) -> None:
    """Checks that the licence of what would be fetched has been accepted.

    Raises:
        RefusedError: COQUI_TOS_AGREED is not set; the message says what the licence is.
    """
    if not settings.coqui_tos_agreed:
        raise RefusedError(
            f"{XTTS_V2} is under the {source.licence}, which allows non-commercial use only, of "
            f"the model and of what it says ({source.licence_url}). Read it, and set "
            "COQUI_TOS_AGREED=1 to accept it.",
            param="COQUI_TOS_AGREED",
            code="licence_not_accepted",
        )


def _fetch_all(source: HubSource, partial: Path, endpoint: str | None) -> dict[str, str]:
    """Fetches and checks every file; returns their SHA-256 by name."""
    with _hub_errors(source):
        files = _list_files(source, endpoint)
    partial.mkdir(exist_ok=True)
    _check_space_or_raise(files, partial)
    hashes = {}
    for file in files:
        with _hub_errors(source):
            # the client resumes from what lies in the folder's .cache
            hf_hub_download(
                source.repo,
                file.path,
                revision=source.revision,
                local_dir=partial,
                endpoint=endpoint,
            )
        hashes[file.path] = _check_file_or_raise(partial / file.path, file)
    return hashes


def _list_files(source: HubSource, endpoint: str | None) -> list[RepoFile]:
    """Asks the hub for sizes and hashes.

    Raises:
        ModelFileError: a required file is not in the repository.
    """
    wanted = [*source.required, *source.optional]
    found = HfApi(endpoint=endpoint).get_paths_info(source.repo, wanted, revision=source.revision)
    files = [file for file in found if isinstance(file, RepoFile)]
    missing = sorted(set(source.required) - {file.path for file in files})
    if missing:
        raise ModelFileError(
            f"{source.repo} at {source.revision} lacks {', '.join(missing)}: choose a revision "
            "that has them."
        )
    return files


def _check_space_or_raise(files: list[RepoFile], folder: Path) -> None:
    needed = sum(file.size for file in files) - _size_of(folder)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UnavailableError(
            f"{XTTS_V2} needs {needed / 1e9:.1f} GB more in {folder.parent} and {free / 1e9:.1f} "
            "GB are free: make room, or set MODELS_DIR to a larger disk.",
            code="disk_full",
        )


def _check_file_or_raise(path: Path, file: RepoFile) -> str:
    """Compares a file with the hub's hash, and removes it where it differs.

    Large files are listed with their SHA-256, small ones with git's SHA-1 of the blob.
    """
    actual = sha256_of_file(path)
    if file.lfs is not None:
        matches = actual == file.lfs.sha256
    else:
        matches = _git_blob_id(path.read_bytes()) == file.blob_id
    if not matches:
        path.unlink()
        raise ModelFileError(
            f"{file.path} arrived damaged: its hash is not the one that the hub states. "
            "It was removed; fetch again."
        )
    return actual


def _git_blob_id(data: bytes) -> str:
    header = f"blob {len(data)}\0".encode()
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest()


def _publish(partial: Path, target: Path, source: HubSource, hashes: dict[str, str]) -> None:
    """Makes the complete folder appear under its name, at once and durably."""
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the client's book-keeping
    origin = {
        "repo": source.repo,
        "revision": source.revision,
        "licence": source.licence,
        "sha256": hashes,
    }
    (partial / SOURCE_FILE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    for path in partial.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    sync_folder(partial)
    partial.rename(target)
    sync_folder(target.parent)


@contextmanager
def _one_at_a_time(lock_path: Path) -> Iterator[None]:
    with lock_path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("Another process is fetching; waiting for it (%s).", lock_path)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _hub_errors(source: HubSource) -> Iterator[None]:
    """Maps the client's errors. Order matters: being offline is one of its kinds of not-found."""
    try:
        yield
    except LocalEntryNotFoundError as error:
        raise _unreachable(source, error) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise ModelFileError(
            f"The hub has no {source.repo} at {source.revision}, or asks for a token to read it "
            "(HF_TOKEN)."
        ) from error
    except OSError as error:  # requests' exceptions are OSErrors too
        raise _unreachable(source, error) from error


def _unreachable(source: HubSource, error: Exception) -> UnavailableError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UnavailableError(
        f"{source.repo} could not be fetched from the hub ({reason[:200]}): check the connection, "
        "HF_ENDPOINT and HF_HUB_OFFLINE, and start again; what arrived is kept.",
        code="download_failed",
    )
