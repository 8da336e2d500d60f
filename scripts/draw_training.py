"""Draws the pictures of docs/training.md from a finished run: curves, and mels of its samples.

`python -m scripts.draw_training [--output train/output] [--runs train/runs] [--to docs/pictures]`
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import soundfile
import torch
from PIL import Image

from train.data.features import CODE_FFT, log_mel
from train.epochs.history import EpochRecord, read_history
from train.epochs.judge import compare
from train.mels import MEL_RATE, resample

mpl.use("Agg")
from matplotlib import pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

_BLUE, _RED, _GREY = "#2a6f97", "#c1440e", "#888888"


def main() -> None:
    """Draws both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("train/output"))
    parser.add_argument("--runs", type=Path, default=Path("train/runs"))
    parser.add_argument("--to", type=Path, default=Path("docs/pictures"))
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    _, records = read_history(arguments.output)
    newest = max(path for path in arguments.runs.iterdir() if path.is_dir())
    draw_curves(newest, records, arguments.to / "training-curves.png")
    draw_mels(arguments.output / "samples", records, arguments.to / "training-mels.png")


def draw_curves(run: Path, records: tuple[EpochRecord, ...], to: Path) -> None:
    """Draws losses, rate, throughput and scores over steps."""
    events = EventAccumulator(str(run))
    events.Reload()
    figure, ((losses, scores), (rate, speed)) = plt.subplots(2, 2, figsize=(10, 6.2))
    _curve(losses, events, "train/loss", _GREY, "training, mean of five steps")
    held_out = [(r.step, r.eval_losses["loss"]) for r in records if "loss" in r.eval_losses]
    losses.plot(*zip(*held_out, strict=True), "o-", color=_RED, label="held-out clips")
    losses.set_title("loss")
    _scores(scores, records)
    _curve(rate, events, "run/learning_rate", _BLUE, "learning rate")
    rate.set_title("learning rate")
    _curve(speed, events, "run/audio_s_per_s", _BLUE, "seconds of audio a second")
    speed.set_title("throughput")
    speed.set_ylim(bottom=0)
    for axes in (losses, scores, rate, speed):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    losses.legend(frameon=False)
    scores.legend(frameon=False)
    _save(figure, to)


def draw_mels(samples: Path, records: tuple[EpochRecord, ...], to: Path) -> None:
    """Draws the sentence of every epoch, one below the other, on one scale of time."""
    spoken = [r for r in records if (samples / f"epoch_{r.epoch}_output.wav").is_file()]
    chosen = [spoken[0], *spoken[1:][-2:]]
    figure, rows = plt.subplots(len(chosen), 1, figsize=(10, 1.9 * len(chosen)), sharex=True)
    for axes, record in zip(np.atleast_1d(rows), chosen, strict=True):
        read, sample_rate = soundfile.read(
            samples / f"epoch_{record.epoch}_output.wav", dtype="float32"
        )
        sound = resample(torch.from_numpy(read), sample_rate, MEL_RATE)
        mel = log_mel(sound, CODE_FFT).numpy()
        end_s = len(sound) / MEL_RATE
        axes.imshow(mel, origin="lower", aspect="auto", cmap="magma", extent=(0, end_s, 0, 80))
        name = f"epoch {record.epoch}" if record.epoch else "starting model"
        axes.set_ylabel(name)
        axes.set_yticks([])
    np.atleast_1d(rows)[-1].set_xlabel("seconds")
    _save(figure, to)


def _curve(axes: Any, events: Any, tag: str, colour: str, label: str) -> None:
    points = events.Scalars(tag)
    axes.plot([p.step for p in points], [p.value for p in points], color=colour, label=label)


def _scores(axes: Any, records: tuple[EpochRecord, ...]) -> None:
    base = next(record for record in records if record.epoch == 0)
    found = [(r.step, c) for r in records if r.epoch and (c := compare(r, base)) is not None]
    axes.errorbar(
        [step for step, _ in found],
        [c.difference for _, c in found],
        yerr=[c.margin for _, c in found],
        fmt="o-",
        color=_BLUE,
        capsize=4,
        label="value against the starting model, with its margin",
    )
    axes.axhline(0, color=_GREY, linewidth=1)
    errors = [
        (r.step, r.figures["character_error_rate"])
        for r in records
        if "character_error_rate" in r.figures
    ]
    axes.plot(*zip(*errors, strict=True), "s--", color=_RED, label="characters wrong")
    axes.set_title("scores")


def _save(figure: Any, to: Path) -> None:
    figure.tight_layout()
    figure.savefig(to, dpi=90)
    plt.close(figure)
    # a palette of 128 colours looks the same at a fifth of the size
    Image.open(to).convert("RGB").quantize(128).save(to, optimize=True)


if __name__ == "__main__":
    main()
