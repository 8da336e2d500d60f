"""TensorBoard's event files: curves, samples to listen to, pictures of mels, settings.

Written as the run goes, so that whoever looks sees the present. A run that is resumed goes on in
the same curves, because they are drawn over steps.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.tensorboard import SummaryWriter

from app.audio.clip import Clip
from train.data.features import CODE_FFT, log_mel
from train.epochs.history import EpochRecord
from train.events import EpochFacts, RunPlan, StepFacts
from train.mels import MEL_RATE, resample

_FLUSH_S = 10
#: Steps whose figures are averaged into one point; a curve of single steps is mostly noise.
_STEPS_PER_POINT = 5
#: From near silence to loud, in log power.
_MEL_RANGE = (-9.0, 3.0)
#: Torch gives it no types.
_WRITER: Any = SummaryWriter


class Curves:
    """Writes the event files of one run.

    Args:
        folder: where they lie; a folder of its own for each run.
        first_step: where a resumed run goes on; what was drawn beyond it is taken back.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        self._writer = _WRITER(str(folder), flush_secs=_FLUSH_S, purge_step=first_step or None)
        self._pending: list[StepFacts] = []

    def run_begins(self, plan: RunPlan) -> None:
        """Writes the settings as a table."""
        facts = {
            "base model": plan.base_model,
            "device": f"{plan.device}: {plan.device_reason}",
            "precision": f"{plan.precision}: {plan.precision_reason}",
            "clips": f"{plan.clips_train} to learn from, {plan.clips_eval} held out, "
            f"{plan.clips_left_out} left out",
            "audio of an epoch": f"{plan.audio_s_per_epoch:.0f} s",
            "epochs": str(plan.num_epochs),
            "steps of an epoch": str(plan.steps_per_epoch),
        }
        rows = [*facts.items(), *sorted(plan.settings.items())]
        table = "\n".join(f"| {key} | {value} |" for key, value in rows)
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{table}", 0)

    def step_done(self, facts: StepFacts) -> None:
        """Adds a step to its point, and writes the point once it is full."""
        self._pending.append(facts)
        if len(self._pending) == _STEPS_PER_POINT:
            self._write_point()

    def epoch_done(self, facts: EpochFacts) -> None:
        """Writes what the epoch came to."""
        self._write_point()
        for side, losses in (("epoch_train", facts.train_losses), ("eval", facts.eval_losses)):
            self._add(side, losses, facts.step)
        seconds = {
            "steps_s": facts.seconds,
            "evaluation_s": facts.eval_seconds,
            "saving_s": facts.save_seconds,
        }
        self._add("time", seconds, facts.step)
        self._writer.flush()

    def listened(self, record: EpochRecord) -> None:
        """Writes the scores of an epoch."""
        self._add("scores", record.figures, record.step)
        if record.sample is not None:
            self._add("scores", {"sample_passed": record.sample.verdict != "failed"}, record.step)
        self._writer.flush()

    def sample(self, name: str, clip: Clip, step: int) -> None:
        """Adds a clip to listen to, and its mel to look at."""
        sound = torch.from_numpy(np.ascontiguousarray(clip.samples))
        self._writer.add_audio(f"samples/{name}", sound[None], step, clip.sample_rate)
        # without an FFT: a picture must not be what a broken one ends the training by
        mel = log_mel(resample(sound, clip.sample_rate, MEL_RATE), CODE_FFT, "dft").numpy()
        self._writer.add_image(f"mels/{name}", draw_mel(mel), step, dataformats="HWC")
        self._writer.flush()

    def advice(self, text: str, step: int) -> None:
        """Adds what was advised after an epoch."""
        self._writer.add_text("advice", text, step)

    def close(self) -> None:
        """Writes what is left."""
        self._write_point()
        self._writer.close()

    def _write_point(self) -> None:
        steps, self._pending = self._pending, []
        if not steps:
            return
        last = steps[-1]
        names = {name for facts in steps for name in facts.losses}
        losses = {
            name: float(np.mean([f.losses[name] for f in steps if name in f.losses]))
            for name in names
        }
        self._add("train", losses, last.step)
        seconds = sum(facts.seconds for facts in steps)
        audio_s = sum(facts.audio_s for facts in steps)
        figures = {
            "learning_rate": last.rate,
            "gradient_norm": float(np.mean([facts.grad_norm for facts in steps])),
            "audio_s_per_s": audio_s / seconds if seconds else 0.0,
            "memory_gb": last.memory_bytes / 1e9,
        }
        self._add("run", figures, last.step)

    def _add(self, group: str, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            if math.isfinite(value):
                self._writer.add_scalar(f"{group}/{name}", value, step)


def draw_mel(log_mel: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Returns a picture [bands * 2, frames, 3] of a log-mel [bands, frames], low notes below."""
    from matplotlib import colormaps

    low, high = _MEL_RANGE
    level = np.clip((log_mel - low) / (high - low), 0, 1)
    colours = colormaps["magma"](np.repeat(level[::-1], 2, axis=0))[..., :3]
    picture: npt.NDArray[np.uint8] = (colours * 255).round().astype(np.uint8)
    return picture
