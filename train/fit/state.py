"""What a resume needs, and whether a saved run may go on under the settings of today."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.errors import SettingsError
from train.checkpoints import BESIDE, link_beside, load_newest, save_checkpoint
from train.data.batches import BatchSampler
from train.data.prepared import PreparedClips
from train.fit.lora import load_trained_state, trained_state
from train.fit.memory import Pieces
from train.fit.network import PREFIX
from train.fit.quarantine import Quarantine
from train.fit.setup import FitSetup
from train.fit.stepper import Sums

FORMAT = 2
#: 1 had the weights in every state.
_READABLE = (1, FORMAT)
#: Settings that decide what a saved state means; with others, it can't go on.
_FIXED = (
    *("BATCH_TOKENS", "TRAIN_SEED", "LORA_RANK", "OPTIMIZER", "COQUI_COMPATIBLE_MASK"),
    "EVAL_SHARE",
)
#: Settings that change how a run goes on, told when they do.
_FREE = (
    *("NUM_EPOCHS", "LEARNING_RATE", "WARMUP", "ACCUMULATION", "DROPOUT", "GRAD_CHECKPOINTING"),
    "PRECISION",
)
_NAMED = 5
_log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a run is. `history` has one entry an epoch: its number, its losses on both sides."""

    step: int = 0
    refused: int = 0
    trained_s: float = 0.0
    epoch_s: float = 0.0
    epoch_sums: Sums = field(default_factory=Sums)
    history: list[dict[str, Any]] = field(default_factory=list)


def settings_of(setup: FitSetup) -> dict[str, str]:
    """Returns the settings of a run as text, by their keys in `.env`."""
    named = {name.upper(): str(value) for name, value in setup.options.model_dump().items()}
    named["LEARNING_RATE"] = f"{setup.rate:g}"
    named["PRECISION"] = setup.precision.value
    return named


def save_state(
    setup: FitSetup,
    optimizer: torch.optim.Optimizer,
    sampler: BatchSampler,
    quarantine: Quarantine,
    progress: Progress,
    *,
    weights_in: tuple[Path, str] | None = None,
) -> Path:
    """Saves all that a resume needs; the one before it is kept.

    Args:
        setup: of the run.
        optimizer: its running means.
        sampler: the place in the epoch.
        quarantine: what was put aside.
        progress: the place in the run.
        weights_in: a checkpoint that has the weights as they are now, and its SHA-256.

    Raises:
        OutputError: the disk is full or can't be written to.
    """
    linked = link_beside(setup.state_dir, progress.step, *weights_in) if weights_in else None
    state = {
        "format": FORMAT,
        "progress": asdict(progress),
        "weights": {} if linked else trained_state(setup.network),
        BESIDE: {linked: weights_in[1]} if linked and weights_in else {},
        "optimizer": optimizer.state_dict(),
        "sampler": sampler.state_dict(),
        "quarantine": quarantine.state_dict(),
        "pieces": asdict(setup.pieces),
        "rng": torch.get_rng_state(),
        "settings": settings_of(setup),
        "base": {"name": setup.bundle.name, "sha256": setup.base_sha256},
        "data": {"identity": setup.clips.identity, "path": str(setup.clips.path)},
    }
    return save_checkpoint(setup.state_dir, progress.step, state)


def resume(
    setup: FitSetup,
    optimizer: torch.optim.Optimizer,
    sampler: BatchSampler,
    quarantine: Quarantine,
) -> Progress:
    """Goes to where the output folder's newest whole state was saved, if there is one.

    Raises:
        SettingsError: it is of another run; the message says what differs and what to do.
    """
    state = load_newest(setup.state_dir)
    if state is None:
        return Progress()
    if state.get("format") not in _READABLE:
        raise _other_run(setup, f"it has format {state.get('format')}, not {FORMAT}")
    _compare(setup, state)
    try:
        load_trained_state(setup.network, _weights_of(setup, state))
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise _other_run(setup, str(error).splitlines()[0]) from error
    sampler.load_state_dict(state["sampler"])
    quarantine.load_state_dict(state["quarantine"])
    readable = (a.index for a in quarantine.clips if not _fault(setup, a.index))
    quarantine.release_readable(list(readable))
    saved = Pieces(**state["pieces"])
    setup.pieces.max_positions = min(setup.pieces.max_positions, saved.max_positions)
    setup.pieces.checkpointing |= saved.checkpointing
    torch.set_rng_state(state["rng"])
    row = state["progress"]
    progress = Progress(**{**row, "epoch_sums": Sums(**row["epoch_sums"])})
    _log.info(
        "Going on at step %d, in epoch %d, after %.1f min of training.",
        progress.step,
        sampler.epoch + 1,
        progress.trained_s / 60,
    )
    return progress


def _weights_of(setup: FitSetup, state: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the weights of a state, or those of the checkpoint that is linked beside it."""
    weights: dict[str, Tensor] = state["weights"]
    for name in state.get(BESIDE, {}):
        path = setup.state_dir / name
        model = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["model"]
        wanted = trained_state(setup.network)
        weights = {key: model[PREFIX + key] for key in wanted if PREFIX + key in model}
    return weights


def _fault(setup: FitSetup, index: int) -> str:
    return setup.clips.fault_of(setup.clips.side("train")[index])


def _compare(setup: FitSetup, state: dict[str, Any]) -> None:
    """Refuses what can't go on, and says what goes on differently."""
    if state["base"]["sha256"] != setup.base_sha256:
        raise _other_run(
            setup,
            f"it was started from the model {state['base']['name']}, and BASE_MODEL is now "
            f"{setup.bundle.name} with other weights",
        )
    if state["data"]["identity"] != setup.clips.identity:
        raise _other_run(setup, _data_difference(setup, Path(state["data"]["path"])))
    before, now = state["settings"], settings_of(setup)
    changed = [
        f"{key} was {before[key]} and is {now[key]}"
        for key in _FIXED
        if before.get(key) != now[key] and key in before
    ]
    if changed:
        raise _other_run(setup, "; ".join(changed))
    for key in _FREE:
        if before.get(key) != now[key]:
            _log.info("Changed since the last start: %s=%s -> %s.", key, before.get(key), now[key])


def _data_difference(setup: FitSetup, path: Path) -> str:
    """Says which clips came and went, where the old list can still be read."""
    try:
        before = {clip.name: clip.key for clip in PreparedClips.open(path)}
    except SettingsError:
        return "it was started on other clips"
    now = {clip.name: clip.key for clip in setup.clips}
    parts = []
    for word, names in (
        ("gone or not usable any more", [n for n in before if n not in now]),
        ("new", [n for n in now if n not in before]),
        ("changed", [n for n in now if n in before and now[n] != before[n]]),
    ):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            parts.append(f"{word}: {', '.join(names[:_NAMED])}{more}")
    return f"the clips are not those it was started on ({'; '.join(parts) or 'texts or split'})"


def _other_run(setup: FitSetup, why: str) -> SettingsError:
    return SettingsError(
        f"{setup.state_dir} holds a run that can't go on like this: {why}. Put that back to go on; "
        "or start a new run with another TRAIN_OUTPUT_DIR, from what was learnt so far with "
        f"BASE_MODEL={setup.checkpoints_dir}/checkpoint_epoch_N.pt, if you like.",
        param="TRAIN_OUTPUT_DIR",
    )
