"""`checkpoint_epoch_X.pt`: a whole XTTS after an epoch, which stock coqui-tts loads as it is.

Weights that were trained are float32: half the width would round away part of what a few steps at
a small rate have learnt, and an evaluation of the file would not give the loss that was reported.
The rest (vocoder, speaker encoder) stays as the base model stores it. No optimizer is in it, so it
has a third of the size of coqui's own.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from app.errors import ModelFileError, OutputError
from app.files import atomic_path, write_atomic
from app.models.bundles import CONFIG_FILE, DECODER_FILE, VOCAB_FILE, Bundle
from app.models.config import read_json
from app.models.weights import State
from train.checkpoints import write_torch
from train.data.base_model import describe_base
from train.data.dvae_files import STATS_FILE, find_dvae
from train.data.levelling import LEVELLING_FILE
from train.fit.lora import merged_state
from train.fit.network import PREFIX, FitGpt


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Returns where the checkpoint of an epoch lies, counted from 1."""
    return folder / f"checkpoint_epoch_{epoch}.pt"


def write_companions(folder: Path, bundle: Bundle) -> None:
    """Puts beside the checkpoints what a reader of them needs: sizes, spelling, and the DVAE.

    With these a checkpoint is a model that can be spoken with, and trained further.
    """
    config = {**read_json(bundle.config), "front_end": bundle.front_end}
    write_atomic(folder / CONFIG_FILE, json.dumps(config, indent=2).encode())
    write_atomic(folder / VOCAB_FILE, bundle.vocab.read_bytes())
    if bundle.decoder is not None:
        write_atomic(folder / DECODER_FILE, bundle.decoder.read_bytes())
    for file in _training_files(bundle):
        target = folder / file.relative_to(bundle.folder)
        if not target.exists():
            _link_or_copy(file, target)


def _link_or_copy(file: Path, target: Path) -> None:
    """Gives a file a second name, which takes no room, or copies it where that can't be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file.resolve(), target)
    except OSError:
        with atomic_path(target) as part:
            shutil.copyfile(file, part)


def _training_files(bundle: Bundle) -> list[Path]:
    """Returns what preparing clips for a model needs: its DVAE, the level of its recordings."""
    files = [bundle.folder / LEVELLING_FILE]
    # where the clips were prepared elsewhere, there may be no DVAE
    with suppress(ModelFileError):
        dvae = find_dvae(bundle, describe_base(bundle)).weights
        files += [dvae, dvae.with_suffix(".json"), dvae.parent / STATS_FILE]
    return [file for file in files if file.is_file()]


def write_epoch_file(
    path: Path, base: State, network: FitGpt, bundle: Bundle, *, epoch: int, step: int
) -> str:
    """Writes a checkpoint, whole or not at all, straight from the tensors to the disk.

    Args:
        path: of the file.
        base: all tensors of the starting model, mapped from its file.
        network: what has become of its GPT.
        bundle: the starting model; its licence travels along.
        epoch: counted from 1.
        step: of the optimizer, counted from 1.

    Returns:
        The file's hex SHA-256.

    Raises:
        OutputError: the disk is full or can't be written to; nothing was replaced.
    """
    trained = {f"{PREFIX}{name}": value for name, value in merged_state(network).items()}
    model = {name: _own(trained.get(name, value)) for name, value in base.items()}
    content = {
        "model": model,
        "config": {**read_json(bundle.config), "front_end": bundle.front_end},
        "epoch": epoch,
        "step": step,
        "audio_voice": about(bundle),
    }
    try:
        with atomic_path(path) as part:
            digest = write_torch(part, content)
    except OSError as error:
        raise OutputError(
            f"{path} can't be written ({error.strerror}): make room or mend the disk, then start "
            "again; training goes on from the state that was saved last."
        ) from error
    return digest


def about(bundle: Bundle) -> dict[str, Any]:
    """Returns what a checkpoint says of the model it comes from."""
    return {
        "format": 1,
        "base": bundle.name,
        "base_version": bundle.version,
        "licence": bundle.licence,
        "front_end": bundle.front_end,
        "languages": list(bundle.languages),
    }


def _own(value: Tensor) -> Tensor:
    """Returns a tensor on the CPU that shares its storage with nothing else.

    Torch saves whole storages; a tensor that is a part of a mapped file would bring all of it.
    """
    value = value.cpu()
    size = value.numel() * value.element_size()
    return value if value.untyped_storage().nbytes() == size else value.clone()
