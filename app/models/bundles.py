"""Finds model bundles: what a name or a path means, and which files belong together.

Three layouts are known: a bundle of ours (`manifest.json`), a stock coqui XTTS folder
(`model.pth`, `config.json`, `vocab.json`, perhaps `speakers_xtts.pth`), and a single checkpoint
file whose `config.json` and `vocab.json` lie beside it or up to three folders above. Looks at
names, manifests and `config.json` only; never opens weights. Needs no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import app
from app.errors import ModelFileError, NotFoundError
from app.models.config import FrontEnd, read_config, read_json
from app.models.manifest import MANIFEST_FILE, Manifest, read_manifest
from app.settings import Settings

BUILTIN = "builtin"
XTTS_V2 = "xtts-v2"
XTTS_V2_LICENCE = "Coqui Public Model License 1.0.0"
#: Written by the download: where the files of a folder came from.
SOURCE_FILE = "source.json"
CONFIG_FILE = "config.json"
VOCAB_FILE = "vocab.json"
DECODER_FILE = "decoder.json"
SPEAKERS_FILE = "speakers_xtts.pth"

BundleKind = Literal["bundle", "coqui", "checkpoint"]

_BUNDLE_WEIGHTS = ("model.safetensors",)
# best_model.pth is what coqui's trainer leaves in its run folder
_COQUI_WEIGHTS = ("model.safetensors", "model.pth", "best_model.pth")
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")
_FOLDERS_ABOVE_CHECKPOINT = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """The files of one model, all of which existed when it was found, and what they say of it.

    `name` is what requests and lists call it; `voices_dir` holds `<voice>.safetensors` files and
    `speakers` is coqui's file of stored voices. `version` and `licence` are empty where no file
    states them. `front_end` is what the tokenizer is fed with.
    """

    name: str
    kind: BundleKind
    folder: Path
    weights: Path
    config: Path
    vocab: Path
    decoder: Path | None
    speakers: Path | None
    voices_dir: Path | None
    manifest: Manifest | None
    version: str
    licence: str
    languages: tuple[str, ...]
    front_end: FrontEnd = "letters"


def builtin_folder() -> Path:
    """Returns the folder of the bundle that ships with the program."""
    return Path(app.__file__).parent / "builtin"


def find_bundle(name: str, settings: Settings) -> Bundle:
    """Finds a model by `builtin`, `xtts-v2`, a name under MODELS_DIR, or a path.

    The name comes from the operator; whoever takes one from a client must compare it with
    `list_bundles` first.

    Raises:
        NotFoundError: nothing is called so; the message lists what there is, or says how
            `xtts-v2` is fetched.
        ModelFileError: it exists and a file of it is missing or unreadable.
    """
    if name == BUILTIN:
        return read_folder(builtin_folder(), BUILTIN)
    under_models = dict(model_paths(settings.models_dir)).get(name)
    if under_models is not None:
        return read_model(under_models, name)
    if name == XTTS_V2:
        raise NotFoundError(
            f"{XTTS_V2} is not in {settings.models_dir} yet: accept its licence "
            f"({XTTS_V2_LICENCE}, non-commercial) with COQUI_TOS_AGREED=1 and fetch it with "
            f"`python -m app models fetch {XTTS_V2}`.",
            param="model",
            code="model_not_downloaded",
        )
    path = Path(name).expanduser()
    if path.exists():
        return read_model(path, name_of_path(path))
    known = ", ".join(b.name for b in list_bundles(settings) if b.name != XTTS_V2)
    raise NotFoundError(
        f"There is no model {name!r}: it is neither a folder or file here nor one of {known}, "
        f"{XTTS_V2}.",
        param="model",
    )


def list_bundles(settings: Settings) -> list[Bundle]:
    """Returns the built-in bundle and each readable one under MODELS_DIR, by name.

    What lies there and can't be read is named in the log with its fault.
    """
    found = (_read_or_warn(*entry) for entry in model_paths(settings.models_dir))
    return [read_folder(builtin_folder(), BUILTIN), *(bundle for bundle in found if bundle)]


def model_paths(models_dir: Path) -> Iterator[tuple[str, Path]]:
    """Yields name and path of everything under MODELS_DIR that is meant to be a model.

    Each folder is one, and so is each checkpoint file in a folder that is no bundle itself:
    `run/checkpoint_epoch_2` for `run/checkpoint_epoch_2.pt`. Hidden folders are none.
    """
    for folder in _visible_folders(models_dir):
        if any((folder / name).is_file() for name in (MANIFEST_FILE, *_COQUI_WEIGHTS)):
            yield folder.name, folder
            continue
        checkpoints = [path for path in sorted(folder.glob("checkpoint*")) if _is_weights(path)]
        yield from ((f"{folder.name}/{path.stem}", path) for path in checkpoints)
        if not checkpoints:
            yield folder.name, folder


def read_model(path: Path, name: str) -> Bundle:
    """Reads a bundle folder, a stock coqui folder or a checkpoint file.

    Raises:
        ModelFileError: a file that belongs to it is missing or unreadable.
    """
    return read_folder(path, name) if path.is_dir() else replace(read_checkpoint(path), name=name)


def read_folder(folder: Path, name: str) -> Bundle:
    """Reads a bundle of ours or a stock coqui folder.

    Raises:
        ModelFileError: a file that belongs to it is missing or unreadable.
    """
    if (folder / MANIFEST_FILE).is_file():
        weights = _weights_or_raise(folder, _BUNDLE_WEIGHTS)
        return _gather(name, "bundle", folder, weights, read_manifest(folder))
    return _gather(name, "coqui", folder, _weights_or_raise(folder, _COQUI_WEIGHTS), None)


def read_checkpoint(weights: Path) -> Bundle:
    """Reads a single checkpoint file, with the config and vocabulary that lie near it.

    Raises:
        ModelFileError: it is no weights file by its name, or no folder near it has both
            `config.json` and `vocab.json`.
    """
    if weights.suffix not in _WEIGHT_SUFFIXES:
        raise ModelFileError(
            f"{weights} is no weights file: names end in {', '.join(_WEIGHT_SUFFIXES)}."
        )
    parents = list(weights.absolute().parents)[: _FOLDERS_ABOVE_CHECKPOINT + 1]
    for folder in parents:
        if (folder / CONFIG_FILE).is_file() and (folder / VOCAB_FILE).is_file():
            return _gather(weights.stem, "checkpoint", folder, weights, None)
    raise ModelFileError(
        f"{weights} has no {CONFIG_FILE} and {VOCAB_FILE} beside it or up to "
        f"{_FOLDERS_ABOVE_CHECKPOINT} folders above: copy them from the model it was trained from."
    )


def name_of_path(path: Path) -> str:
    """Returns what a model is called that is given by its path."""
    return path.stem if path.is_file() else path.resolve().name


def _is_weights(path: Path) -> bool:
    return path.suffix in _WEIGHT_SUFFIXES and path.is_file()


def _read_or_warn(name: str, path: Path) -> Bundle | None:
    try:
        return read_model(path, name)
    except ModelFileError as error:
        _log.warning("%s is not listed as a model: %s", path, error.message)
        return None


def _gather(
    name: str, kind: BundleKind, folder: Path, weights: Path, manifest: Manifest | None
) -> Bundle:
    config = _file_or_raise(folder, CONFIG_FILE)
    decoder = _file_if_there(folder / DECODER_FILE)
    source = read_json(folder / SOURCE_FILE) if (folder / SOURCE_FILE).is_file() else {}
    described = manifest or read_config(config, decoder)
    return Bundle(
        name=name,
        kind=kind,
        folder=folder,
        weights=weights,
        config=config,
        vocab=_file_or_raise(folder, VOCAB_FILE),
        decoder=decoder,
        speakers=_file_if_there(folder / SPEAKERS_FILE),
        voices_dir=folder / "voices" if (folder / "voices").is_dir() else None,
        manifest=manifest,
        version=manifest.version if manifest else str(source.get("revision", "")),
        licence=manifest.licence if manifest else str(source.get("licence", "")),
        languages=tuple(described.languages),
        front_end=described.front_end,
    )


def _weights_or_raise(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModelFileError(f"{folder} has no weights: {' or '.join(names)} belongs there.")


def _file_or_raise(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ModelFileError(
            f"{path} is missing; copy it from the model that these weights belong to."
        )
    return path


def _file_if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _visible_folders(parent: Path) -> Iterator[Path]:
    if parent.is_dir():
        yield from sorted(
            path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
