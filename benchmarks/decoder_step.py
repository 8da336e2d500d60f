"""What a step of `python -m train decoder` takes at the shapes of XTTS-v2's own decoder.

Run: python -m benchmarks.decoder_step [--adversary] [--batch 8] [--segment-s 0.4] [--steps 4]

Weights, latents and audio are drawn, so the losses mean nothing; the work and the memory are real.
The first step is left out: it also pays for what is done once.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from app.engine.formats import has_bfloat16_units
from app.engine.vocoder import frame_scales
from app.engine.vocoder_weights import VocoderSizes
from train.decoder.adversary import Adversary
from train.decoder.generator import build_generator, samples_per_code
from train.decoder.job import ClipParts, DecoderJob, SegmentPlan
from train.decoder.run import codes_of
from train.loop import LoopOptions, fit

SIZES = VocoderSizes()
SCALES = frame_scales(SIZES, 1.0)
CLIP_CODES = 100


class Drawn:
    """One clip of noise; a source of segments."""

    chances = np.ones(1)
    delay = 0

    def read(self, index: int, rng: np.random.Generator) -> ClipParts:  # noqa: ARG002 - the only one
        """Returns a clip of 4.6 s."""
        samples = int(CLIP_CODES * samples_per_code(SCALES, SIZES.output_hop))
        return ClipParts(
            rng.standard_normal((CLIP_CODES, SIZES.latent_dim)).astype(np.float32),
            (0.1 * rng.standard_normal(samples)).astype(np.float32),
            np.full(SIZES.speaker_dim, SIZES.speaker_dim**-0.5, np.float32),
        )


class Timed(DecoderJob):
    """Notes when each step has ended."""

    ends: list[float]

    def after_step(self, step: int) -> None:  # noqa: ARG002 - the loop counts
        """Notes the time, once the device has done its work."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def main() -> None:
    """Trains some steps and prints seconds of a step, parameters and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adversary", action="store_true")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--segment-s", type=float, default=0.4)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    is_cuda = torch.cuda.is_available()
    is_bfloat16 = is_cuda or has_bfloat16_units()
    accelerator = Accelerator(cpu=not is_cuda, mixed_precision="bf16" if is_bfloat16 else "no")
    codes = codes_of(arguments.segment_s, SIZES.code_stride)
    plan = SegmentPlan(
        batch=arguments.batch,
        codes=codes,
        scales=SCALES,
        hop=SIZES.output_hop,
        sample_rate=SIZES.output_sample_rate,
        seed=1,
    )
    generator = build_generator(SIZES)
    adversary = Adversary(accelerator, seed=1) if arguments.adversary else None
    job = Timed(generator, Drawn(), plan, adversary)
    job.ends = []
    with tempfile.TemporaryDirectory() as folder:
        options = LoopOptions(steps=arguments.steps, rate=1e-4, warmup=0, clip=10.0)
        fit(job, Path(folder), options, accelerator)
    seconds = np.diff(job.ends)
    found = {
        "device": str(accelerator.device),
        "precision": "bfloat16" if is_bfloat16 else "float32",
        "threads": torch.get_num_threads(),
        "adversary": arguments.adversary,
        "batch": arguments.batch,
        "codes": codes,
        "parameters": sum(p.numel() for p in generator.parameters()),
        "step_s": [round(float(value), 2) for value in seconds],
        "resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if is_cuda:
        found["gpu_mb"] = torch.cuda.max_memory_allocated() // 2**20
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
