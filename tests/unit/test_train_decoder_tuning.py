"""Fine-tuning a decoder: the delay is found, a resume changes nothing, a worse one stays home."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fit_runs import TINY_ARGS, TINY_DECODER, cpu_accelerator
from torch import Tensor, nn

from app.engine.vocoder import frame_scales
from app.engine.vocoder_weights import VocoderSizes
from app.errors import SettingsError
from train.decoder.adversary import Adversary
from train.decoder.generator import build_generator, samples_per_code
from train.decoder.job import DecoderJob, SegmentPlan
from train.decoder.judge import ClipDistances, Judge, change, judge_change, mean_of
from train.decoder.material import Material, MaterialClips, NewClip, write_material
from train.decoder.tuning import TuningJob
from train.loop import LoopOptions, Outcome, fit

SIZES = VocoderSizes.from_args(TINY_ARGS, TINY_DECODER)
SCALES = frame_scales(SIZES, 1.0)
WIDTH = SIZES.latent_dim


def bursts(folder: Path, delay: int) -> Material:
    """Writes clips of tones whose loudness the latents say, `delay` codes late.

    Those of drawn codes say some of it wrongly.
    """
    per_code = samples_per_code(SCALES, 256)

    def clips() -> list[NewClip]:
        found = []
        for number in range(8):
            rng = np.random.default_rng(number)
            loud = rng.uniform(0.02, 0.9, 30).astype(np.float32)
            codes = (np.arange(int(30 * per_code)) / per_code).astype(int).clip(max=29)
            tone = np.sin(np.arange(len(codes)) * 0.2).astype(np.float32)
            latents = np.zeros((31, WIDTH), np.float32)
            heard = np.arange(31) - delay
            inside = (heard >= 0) & (heard < 30)
            latents[inside, 0] = loud[heard[inside]]
            side = "train" if number < 5 else "eval"
            drawn = latents.copy()
            drawn[rng.random(31) < 0.4, 0] = rng.uniform(0.02, 0.9)
            found.append(NewClip(f"c{number}", side, "", latents, drawn, loud[codes] * tone))
        return found

    vectors = {"": [np.eye(1, 512, dtype=np.float32)[0]]}
    return write_material(folder, "x", clips(), vectors)


class ToneMaker(nn.Module):
    """A decoder that makes what `bursts` has: the tone, as loud as the first channel says."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, frames: Tensor, speaker: Tensor) -> Tensor:
        loud = frames[:, :1].repeat_interleave(256, dim=2)
        return self.gain * loud * torch.sin(torch.arange(loud.shape[2]) * 0.2)


def judge_of(material: Material) -> Judge:
    return Judge(material, SCALES, 256, 24000)


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_the_delay_is_where_a_trained_decoder_is_nearest(tmp_path: Path, delay: int) -> None:
    judge = judge_of(bursts(tmp_path, delay))
    found = judge.find_delay(ToneMaker())
    assert found.value == delay
    assert f"{delay}: {found.distances[delay]:.3f}" in found.reason
    right = judge.distances(ToneMaker(), delay)
    for wrong in {0, 1, 2} - {delay}:
        assert change(right, judge.distances(ToneMaker(), wrong)).difference > 0.1
    # latents that say it wrongly are farther away
    assert all(found["drawn_spectral"] > found["spectral"] + 0.01 for found in right)


def test_two_clips_are_the_least_that_judge(tmp_path: Path) -> None:
    material = bursts(tmp_path, 0)
    material.clips = material.clips[:6]
    with pytest.raises(SettingsError, match="EVAL_SHARE"):
        judge_of(material)


def distances(*values: float) -> list[ClipDistances]:
    return [{"spectral": value} for value in values]


def test_only_what_is_no_chance_is_better() -> None:
    before = distances(1.0, 2.0, 3.0)
    assert change(before, distances(0.9, 1.9, 2.9)).is_better
    assert not change(before, before).is_better
    assert not change(before, distances(1.1, 2.1, 3.1)).is_better
    lucky = change(before, distances(0.0, 2.1, 3.1))
    assert lucky.difference < 0
    assert not lucky.is_better


def both(true: list[float], drawn: list[float]) -> list[ClipDistances]:
    return [
        {"spectral": own, "drawn_spectral": other} for own, other in zip(true, drawn, strict=True)
    ]


def test_drawn_codes_decide_and_true_ones_may_not_get_worse() -> None:
    before = both([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    nearer, same, lucky = [1.9, 2.9, 3.9], [2.0, 3.0, 4.0], [1.0, 3.1, 4.1]
    assert judge_change(before, both([0.9, 1.9, 2.9], nearer)).is_better
    assert judge_change(before, both([1.0, 2.0, 3.0], nearer)).is_better
    assert not judge_change(before, both([1.01, 2.0, 3.0], nearer)).is_better
    assert not judge_change(before, both([0.9, 1.9, 2.9], same)).is_better
    assert not judge_change(before, both([0.9, 1.9, 2.9], lucky)).is_better


def tune(material: Material, folder: Path, stop_after: int = 99) -> tuple[TuningJob, Outcome]:
    """Trains for eight steps, the last three with an adversary, or stops before."""
    torch.manual_seed(0)
    accelerator = cpu_accelerator()
    plan = SegmentPlan(
        batch=2,
        codes=5,
        scales=SCALES,
        hop=256,
        sample_rate=24000,
        seed=3,
        adversary_from=5,
    )
    decoder = DecoderJob(
        build_generator(SIZES),
        MaterialClips(material, 5, delay=1),
        plan,
        Adversary(accelerator, seed=1, channels=2),
    )
    told: list[int] = []
    job = TuningJob(
        decoder,
        judge_of(material),
        delay=1,
        every=2,
        last_step=8,
        counts_from=6,
        told=lambda step, _means: told.append(step),
    )
    made = 0

    def should_stop() -> bool:
        nonlocal made
        made += 1
        return made >= stop_after

    options = LoopOptions(steps=8, rate=1e-2, warmup=0, clip=10.0, betas=(0.8, 0.99))
    return job, fit(job, folder, options, accelerator, should_stop)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    material = bursts(tmp_path / "material", 1)
    whole, outcome = tune(material, tmp_path / "whole")
    assert outcome.finished
    assert list(whole.records) == [2, 4, 6, 8]
    # those before the adversary don't count
    drawn = {step: mean_of(whole.records[step])["drawn_spectral"] for step in (6, 8)}
    assert whole.best_step == min(drawn, key=lambda step: drawn[step])
    for _ in range(2):
        part, outcome = tune(material, tmp_path / "parts", stop_after=3)
        assert not outcome.finished
    part, outcome = tune(material, tmp_path / "parts")
    assert outcome.finished
    assert part.records == whole.records
    assert part.best_step == whole.best_step
    wanted = whole.module.state_dict()
    for name, value in part.module.state_dict().items():
        assert torch.equal(value, wanted[name]), name
    for name, value in part.best.items():
        assert torch.equal(value, whole.best[name]), name


def test_training_brings_it_nearer_to_clips_it_never_met(tmp_path: Path) -> None:
    material = bursts(tmp_path / "material", 1)
    torch.manual_seed(0)
    generator = build_generator(SIZES)
    judge = judge_of(material)
    before = judge.distances(generator, 1)
    plan = SegmentPlan(batch=4, codes=9, scales=SCALES, hop=256, sample_rate=24000, seed=3)
    job = DecoderJob(generator, MaterialClips(material, 9, delay=1), plan)
    options = LoopOptions(steps=40, rate=1e-2, warmup=0, clip=10.0, betas=(0.8, 0.99))
    fit(job, tmp_path / "state", options, cpu_accelerator())
    assert judge_change(before, judge.distances(generator, 1)).is_better
