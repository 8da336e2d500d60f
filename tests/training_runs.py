"""Clips, checkpoints and facts for tests of what happens around the epochs."""

from __future__ import annotations

import csv
from pathlib import Path

import soundfile
import torch
from clip_folders import KATHLEEN
from safetensors.torch import load_file

import app
from train.data.prepared import PreparedClip, PreparedClips, PreparedFor
from train.epochs.job import ListenPlan, Sample, ScoredText, TextScore
from train.events import EpochFacts, RunPlan, StepFacts

BUILTIN = Path(app.__file__).parent / "builtin"
SENTENCE = "They were three hundred yards apart, and nobody spoke."


def kathleen_clips(folder: Path, num_eval: int = 4) -> PreparedClips:
    """Returns the twelve clips as if they had been prepared; without arrays."""
    with (KATHLEEN / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, delimiter="|"))
    clips = []
    for number, (name, text, *_) in enumerate(rows):
        audio = KATHLEEN / "wavs" / f"{name}.flac"
        num_samples = round(soundfile.info(audio).duration * 22050)
        clips.append(
            PreparedClip(
                name=name,
                side="eval" if number < num_eval else "train",
                speaker="kathleen",
                language="en",
                text=text,
                spoken=text,
                token_ids=(1, 2),
                num_samples=num_samples,
                num_codes=num_samples // 1024,
                num_frames=num_samples // 256,
                key=f"{number:064d}",
                shard="none",
                audio=str(audio),
            )
        )
    return PreparedClips(folder / "run.json", PreparedFor("builtin", "", "", 1024, 1024), clips)


def listen_plan(folder: Path, num_scored: int = 2, retries: int = 2) -> ListenPlan:
    """Returns what the built-in model is to say in Kathleen's voice."""
    clips = kathleen_clips(folder).side("eval")
    return ListenPlan(
        base_model="builtin",
        models_dir=str(folder / "models"),
        text=SENTENCE,
        language="en",
        seed=7,
        reference=clips[-1].audio,
        speaker="kathleen",
        data="kathleen",
        hours=0.1,
        scored=tuple(
            ScoredText(clip.name, clip.text, "en", clip.audio, clip.duration_s)
            for clip in clips[:num_scored]
        ),
        retries=retries,
        recogniser="auto",
        whisper_model="small",
    )


def write_checkpoint(folder: Path, epoch: int = 1, noise: float = 0.0) -> Path:
    """Writes the built-in weights as an epoch's checkpoint; `noise` spoils the GPT."""
    state = {k: v.float() for k, v in load_file(BUILTIN / "model.safetensors").items()}
    generator = torch.Generator().manual_seed(epoch)
    for name in sorted(state):
        if noise and name.startswith("gpt.gpt.h."):
            value = state[name]
            state[name] = value + noise * torch.randn(value.shape, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint_epoch_{epoch}.pt"
    torch.save({"model": state, "epoch": epoch, "step": 10 * epoch}, path)
    return path


def run_plan(output: Path, *, num_epochs: int = 3, first_step: int = 0) -> RunPlan:
    """Returns the plan of a run of ten steps an epoch."""
    return RunPlan(
        output_dir=output,
        runs_dir=output.parent / "runs",
        base_model="builtin",
        base_folder=BUILTIN,
        num_epochs=num_epochs,
        steps_per_epoch=10,
        first_step=first_step,
        clips_train=8,
        clips_eval=4,
        clips_left_out=0,
        audio_s_per_epoch=100.0,
        device="cpu",
        device_reason="a test",
        precision="float32",
        precision_reason="the fastest that every CPU has",
        settings={"LEARNING_RATE": "0.0001"},
    )


def step_facts(step: int, *, seconds: float = 0.5, audio_s: float = 10.0) -> StepFacts:
    """Returns what a step tells, in epochs of ten."""
    return StepFacts(
        step=step,
        epoch=(step - 1) // 10 + 1,
        losses={"loss": 5 - 0.01 * step, "mel_ce": 4.5, "text_ce": 3.0},
        rate=1e-4,
        grad_norm=1.0,
        audio_s=audio_s,
        seconds=seconds,
        memory_bytes=10**9,
        quarantined=(),
    )


def epoch_facts(epoch: int, checkpoint: Path, loss: float = 4.0) -> EpochFacts:
    """Returns what an epoch tells."""
    return EpochFacts(
        epoch=epoch,
        step=10 * epoch,
        train_losses={"loss": loss - 0.1},
        eval_losses={"loss": loss},
        seconds=5.0,
        eval_seconds=1.0,
        save_seconds=0.5,
        checkpoint=checkpoint,
    )


def text_score(name: str, value: float) -> TextScore:
    """Returns a score of the value given (by its similarity)."""
    return TextScore(name, name, "", 2.0, 2.0, None, None, value, "")


PASSED = Sample("ok", duration_s=2.0, seconds=1.0)
