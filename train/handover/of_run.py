"""What of a run is handed over: which checkpoint, by which name, in whose voice."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from app.errors import AudioVoiceError, ModelFileError
from app.files import sha256_of_file, write_atomic
from app.models.config import read_json
from train.epochs.history import EpochRecord, read_history
from train.epochs.job import ListenPlan
from train.epochs.keeping import (
    CHECKPOINTS,
    find_epoch_checkpoint,
    list_epoch_checkpoints,
    read_best,
)
from train.epochs.speaking import find_checkpoint
from train.handover.export import Handover, export_bundle, next_free_name, voice_name

_EXPORTED_FILE = "exported.json"


def export_run(
    output_dir: Path, models_dir: Path, *, checkpoint: str = "best", to: Path | None = None
) -> Path:
    """Makes a bundle of a run's checkpoint.

    Args:
        output_dir: of the run.
        models_dir: where the service looks for models.
        checkpoint: `best`, an epoch's number, or the path of a checkpoint.
        to: the bundle's folder; `models_dir` with the speaker's name and a free number if left out.

    Returns:
        The bundle's folder.

    Raises:
        AudioVoiceError: there is no such run or checkpoint, or the folder is taken.
    """
    plan, records = read_history(output_dir)
    path = find_epoch_checkpoint(output_dir / CHECKPOINTS, checkpoint)
    epoch = _epoch_of(path, output_dir / CHECKPOINTS)
    record = next((record for record in records if record.epoch == epoch), None)
    target = to or models_dir / next_free_name(models_dir, voice_name(plan.speaker))
    handover = Handover(
        checkpoint=path,
        base=find_checkpoint(plan, ""),
        recordings=_recordings(plan),
        speaker=plan.speaker,
        language=plan.language,
        version=f"epoch-{epoch}" if epoch else f"sha256-{sha256_of_file(path)[:8]}",
        data=plan.data,
        hours=plan.hours,
        scores=_scores(record),
    )
    return export_bundle(handover, target)


def export_finished(output_dir: Path, models_dir: Path, name: str) -> str:
    """Exports the best checkpoint of a finished run, once; returns what to tell the user.

    A run that is started again after its end has nothing new to hand over. What goes wrong here
    is told and is no fault of the run, whose checkpoints are all there.

    Args:
        output_dir: of the run.
        models_dir: where the service looks for models.
        name: of the bundle; empty: the speaker's name with a free number.
    """
    note = output_dir / _EXPORTED_FILE
    best = read_best(output_dir / CHECKPOINTS)
    what = best.checkpoint if best else ""
    known = read_json(note) if note.is_file() else {}
    if known.get("checkpoint") == what and Path(str(known.get("folder", ""))).is_dir():
        return f"{what} is exported already: {known['folder']}."
    try:
        folder = export_run(output_dir, models_dir, to=models_dir / name if name else None)
    except AudioVoiceError as error:
        return f"No bundle was made: {error.message} `python -m train export` makes one."
    content = {"checkpoint": what, "folder": str(folder)}
    write_atomic(note, json.dumps(content).encode() + b"\n")
    return (
        f"Bundle: {folder}. The service lists it as {folder.name}; "
        f"DEFAULT_MODEL={folder.name} speaks with it."
    )


def _recordings(plan: ListenPlan) -> list[str]:
    return list(dict.fromkeys((plan.reference, *(text.recording for text in plan.scored))))


def _epoch_of(path: Path, folder: Path) -> int:
    """Returns the epoch of a checkpoint; 0 where neither its name nor its content says it."""
    for epoch, known in list_epoch_checkpoints(folder).items():
        if known.absolute() == path.absolute():
            return epoch
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ModelFileError(
            f"{path} is no checkpoint of a run; name one of its epochs."
        ) from error
    epoch = content.get("epoch", 0) if isinstance(content, dict) else 0
    return epoch if isinstance(epoch, int) else 0


def _scores(record: EpochRecord | None) -> dict[str, float]:
    if record is None:
        return {}
    scores = {name: round(value, 4) for name, value in record.figures.items()}
    if record.texts:
        scores["scored_texts"] = len(record.texts)
    if "loss" in record.eval_losses:
        scores["evaluation_loss"] = round(record.eval_losses["loss"], 4)
    return scores
