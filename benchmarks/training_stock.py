"""coqui's own GPTTrainer in a process of its own, as its LJSpeech recipe sets it up.

    python -m benchmarks.training_stock TASK.json RESULT.json

Settings are those of recipes/ljspeech/xtts_v2/train_gpt_xtts.py of coqui-tts, but for the batch and
its accumulation (given), two loader processes a processor less one (the recipe has eight) and no
test sentences, which a model with random weights would speak without end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from trainer import Trainer, TrainerArgs
from TTS.tts.layers.xtts.trainer.gpt_trainer import GPTArgs, GPTTrainer, GPTTrainerConfig
from TTS.tts.models.xtts import XttsAudioConfig

from app.models.config import read_json
from benchmarks.training_task import Meter, TrainingTask
from train.data.prepared import PreparedClips, Side

_RATE = 22050


class MeasuredTrainer(GPTTrainer):
    """The trainer with clocks at its own callbacks."""

    def __init__(self, config: Any, meter: Meter) -> None:
        super().__init__(config)
        self.meter = meter
        self.audio_s = 0.0
        self.clips = 0

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Starts the clock of an epoch."""
        del trainer
        self.audio_s, self.clips = 0.0, 0
        self.meter.epoch_begins()

    def on_train_epoch_start(self, trainer: Trainer) -> None:
        """Starts the clock of the learning."""
        super().on_train_epoch_start(trainer)
        self.meter.training_begins()

    def train_step(self, batch: dict[str, Any], *args: Any) -> Any:
        """Counts what is learnt from; its evaluation calls this too."""
        if self.xtts.gpt.training:
            self.audio_s += float(batch["wav_lengths"].sum()) / _RATE
            self.clips += len(batch["wav_lengths"])
        return super().train_step(batch, *args)

    def on_train_epoch_end(self, trainer: Trainer) -> None:
        """Stops the clock of the learning."""
        del trainer
        self.meter.training_ends()

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Notes the epoch; the one that only evaluates learnt nothing."""
        loss = float(trainer.keep_avg_eval.avg_values["avg_loss"])
        if self.clips:
            self.meter.epoch_ends(self.audio_s, self.clips, loss)


def make_config(task: TrainingTask) -> GPTTrainerConfig:
    """Returns the recipe's config for this model."""
    folder = Path(task.model)
    known = GPTArgs().keys()
    args = {k: v for k, v in read_json(folder / "config.json")["model_args"].items() if k in known}
    args.update(
        max_conditioning_length=132300,
        min_conditioning_length=66150,
        debug_loading_failures=False,
        max_wav_length=255995,
        max_text_length=200,
        mel_norm_file=str(folder / "mel_stats.pth"),
        dvae_checkpoint=str(folder / "dvae.pth"),
        xtts_checkpoint=str(folder / "model.pth"),
        tokenizer_file=str(folder / "vocab.json"),
        gpt_use_masking_gt_prompt_approach=True,
    )
    return GPTTrainerConfig(
        output_path=task.output,
        model_args=GPTArgs(**args),
        languages=["en"],
        audio=XttsAudioConfig(sample_rate=_RATE, dvae_sample_rate=_RATE, output_sample_rate=24000),
        epochs=task.epochs + 1,  # the first one only evaluates
        batch_size=task.rows,
        batch_group_size=48,
        eval_batch_size=task.rows,
        num_loader_workers=max(1, (os.cpu_count() or 1) - 1),
        eval_split_max_size=256,
        print_step=50,
        plot_step=100,
        log_model_step=1000,
        save_step=10000,
        save_n_checkpoints=1,
        save_checkpoints=True,
        print_eval=False,
        mixed_precision=task.dtype == "bfloat16",
        precision="bf16",
        optimizer="AdamW",
        optimizer_wd_only_on_weights=True,
        optimizer_params={"betas": [0.9, 0.96], "eps": 1e-8, "weight_decay": 1e-2},
        lr=5e-06,
        lr_scheduler="MultiStepLR",
        lr_scheduler_params={
            "milestones": [50000 * 18, 150000 * 18, 300000 * 18],
            "gamma": 0.5,
            "last_epoch": -1,
        },
    )


def samples_of(clips: PreparedClips, side: Side) -> list[dict[str, Any]]:
    """Returns clips as coqui's formatters do."""
    return [
        {
            "text": clip.text,
            "audio_file": clip.audio,
            "speaker_name": "ljspeech",
            "root_path": str(Path(clip.audio).parent),
            "language": clip.language,
            "audio_unique_name": clip.name,
        }
        for clip in clips.side(side)
    ]


def main() -> None:
    """Trains, and writes what was measured."""
    task = TrainingTask.read(Path(sys.argv[1]))
    if task.threads:
        torch.set_num_threads(task.threads)
    meter = Meter()
    config = make_config(task)
    model = MeasuredTrainer(config, meter)
    clips = PreparedClips.open(Path(task.clips))
    trainer = Trainer(
        TrainerArgs(
            restore_path=None,
            skip_train_epoch=False,
            start_with_eval=True,
            grad_accum_steps=task.accumulation,
        ),
        config,
        output_path=task.output,
        model=model,
        train_samples=samples_of(clips, "train"),
        eval_samples=samples_of(clips, "eval"),
    )
    trainer._fit()  # noqa: SLF001 - `fit` would end the process
    meter.result(Path(task.output), torch.get_num_threads()).write(Path(sys.argv[2]))


if __name__ == "__main__":
    main()
