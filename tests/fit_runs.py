"""Prepared clips and whole runs on small models, for tests of the training loop.

The models are the toys of `toy.py`; clips have random codes, so nothing can be learnt but by
heart, which is what the tests look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from toy import MODEL_ARGS, build_bundle

from app.files import sha256_of_file
from app.messages import Route
from app.models.bundles import Bundle, read_folder
from app.synthesis.placing import Placement
from train.data.prepared import PreparedClip, PreparedClips, PreparedFor
from train.data.shards import ClipArrays, write_shard
from train.events import EpochFacts, Observer, RunPlan, StepFacts
from train.fit.result import FitResult
from train.fit.run import FitRun
from train.fit.setup import Choice, FitSetup, set_up
from train.options import TrainingOptions

STRIDE = 1024
#: Smaller than the toy that speaks: a run of some steps takes a second.
TINY_ARGS: dict[str, Any] = {
    **MODEL_ARGS,
    "gpt_layers": 2,
    "gpt_n_model_channels": 32,
    "gpt_n_heads": 2,
    "decoder_input_dim": 32,
}
TINY_DECODER: dict[str, Any] = {
    "resblock_type_decoder": "2",
    "resblock_kernel_sizes_decoder": [3],
    "resblock_dilation_sizes_decoder": [[1, 3]],
    "upsample_rates_decoder": [8, 8, 4],
    "upsample_kernel_sizes_decoder": [16, 16, 8],
    "upsample_initial_channel_decoder": 16,
}


def tiny_bundle(folder: Path) -> Bundle:
    """Writes and reads a tiny XTTS in stock's format."""
    return read_folder(build_bundle(folder, TINY_ARGS, TINY_DECODER), "tiny")


def prepared_clips(
    folder: Path, bundle: Bundle, num_train: int = 12, num_eval: int = 2, *, nan: Sequence[int] = ()
) -> PreparedClips:
    """Writes clips of 0.8 to 2.8 s; the mels of those that `nan` counts are no numbers."""
    rng = np.random.default_rng(5)
    arrays: dict[str, ClipArrays] = {}
    for number in range(num_train + num_eval):
        num_samples = int(rng.integers(18000, 62000))
        mels = [
            rng.normal(-3, 2, (1 + num_samples // 256, 80)).astype(np.float16) for _ in range(2)
        ]
        if number in nan:
            mels[0][:] = np.nan
        codes = rng.integers(0, 1024, -(-num_samples // STRIDE)).astype(np.int16)
        arrays[f"{number:064x}"] = ClipArrays(codes, *mels, num_samples)
    folder.mkdir(parents=True, exist_ok=True)
    shard = write_shard(folder, arrays)
    clips = [
        PreparedClip(
            name=f"clip{number}",
            side="train" if number < num_train else "eval",
            speaker="",
            language="en",
            text="a few words",
            spoken="a few words",
            token_ids=(4, *(int(i) for i in rng.integers(18, 45, int(rng.integers(8, 20))))),
            num_samples=entry.num_samples,
            num_codes=len(entry.codes),
            num_frames=len(entry.style_mel),
            key=key,
            shard=shard.name,
            audio=str(folder / f"clip{number}.wav"),
        )
        for number, (key, entry) in enumerate(arrays.items())
    ]
    made_for = PreparedFor(bundle.name, sha256_of_file(bundle.vocab), "codes", STRIDE, 1024)
    return PreparedClips.write(folder, made_for, clips)


def placed_on_cpu() -> Placement:
    """Returns where tests train."""
    routes = (Route("precision", "float32", "a test"),)
    return Placement(torch.device("cpu"), torch.float32, "device", "a test", routes)


def cpu_accelerator() -> Accelerator:
    """Returns an accelerator on the CPU; its state is one a process, and others may have set it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=True)


def setup_of(bundle: Bundle, clips: PreparedClips, output: Path, **options: Any) -> FitSetup:
    """Returns a run, ready to start."""
    given = {
        "num_epochs": 2,
        "batch_tokens": 400,
        "learning_rate": 1e-3,
        "warmup": 2,
        "train_output_dir": output,
        "train_runs_dir": output / "runs",
        **options,
    }
    return set_up(
        TrainingOptions(**given),
        bundle,
        clips,
        0,
        placed_on_cpu(),
        cpu_accelerator(),
        Choice("float32", "a test"),
    )


class Watcher:
    """Notes what a run tells."""

    def __init__(self) -> None:
        self.plans: list[RunPlan] = []
        self.steps: list[StepFacts] = []
        self.epochs: list[EpochFacts] = []
        self.ends: list[str] = []

    def run_begins(self, plan: RunPlan) -> None:
        self.plans.append(plan)

    def step_done(self, facts: StepFacts) -> None:
        self.steps.append(facts)

    def epoch_done(self, facts: EpochFacts) -> None:
        self.epochs.append(facts)

    def run_ends(self, reason: str) -> None:
        self.ends.append(reason)


def run_fit(setup: FitSetup, *observers: Observer) -> FitResult:
    """Runs to the end, or as far as it goes."""
    return FitRun(setup, observers).run()


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """Returns the weights in an epoch's checkpoint."""
    model: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return model
