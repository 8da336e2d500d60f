"""Opens a recipe's workspace and runs its stages in order."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator

from app.errors import SettingsError
from train.pretrain.recipe import read_recipe
from train.pretrain.report import run_report
from train.pretrain.stages import STAGES
from train.pretrain.workspace import Workspace

#: Stages that `accelerate launch` may run in several processes.
_PARALLEL_STAGES = {"gpt", "decoder_mel", "decoder"}

_log = logging.getLogger(__name__)


def open_workspace(
    recipe_dir: Path,
    *,
    data_dir: Path,
    folder: Path | None = None,
    threads: int = 1,
    start_from: Path | None = None,
) -> Workspace:
    """Reads the recipe and readies device, threads and tracking.

    Args:
        recipe_dir: folder with `recipe.toml`.
        data_dir: folder under which the recipe's recordings lie.
        folder: where the run keeps its files; in the user's cache if None.
        threads: CPU threads of torch, and processes of the data stage.
        start_from: a bundle of this recipe that stages without checkpoints start from.

    Raises:
        SettingsError: the recipe does not fit.
    """
    recipe = read_recipe(recipe_dir)
    target = folder or Path.home() / ".cache" / "audio-voice" / "pretrain" / recipe.name
    target.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16",
        log_with="tensorboard",
        project_dir=str(target / "runs"),
    )
    return Workspace(recipe, recipe_dir, data_dir, target, accelerator, threads, start_from)


def run_stages(work: Workspace, names: Iterable[str]) -> None:
    """Runs the named stages in the recipe's order.

    Raises:
        AudioVoiceError: a stage could not run, or did not pass its gate.
        SettingsError: several processes, and a stage that one process must run.
    """
    wanted = set(names)
    single = sorted(wanted - _PARALLEL_STAGES)
    if work.accelerator.num_processes > 1 and single:
        raise SettingsError(
            f"stages {', '.join(single)} run in one process; under accelerate launch name others: "
            f"--stage {' --stage '.join(sorted(_PARALLEL_STAGES))}."
        )
    for name, stage in {**STAGES, "report": run_report}.items():
        if name in wanted:
            _log.info("stage %s", name)
            stage(work)
