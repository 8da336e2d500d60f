"""Fine-tuning a model's decoder on prepared clips, from the base to a verdict, over any starts.

Latents and audio are computed once; the delay and the base's distances are measured before the
first step; the loop trains and resumes; held-out clips say at the end whether there is anything to
hand over. Below `TRAIN_OUTPUT_DIR/decoder`; the export is `train.handover.decoder`'s.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from app.audio.encode import encode_whole
from app.engine.vocoder import frame_scales
from app.errors import DeviceError, SettingsError
from app.files import write_atomic
from train.checkpoints import list_checkpoints
from train.data.base_model import TRAINING_RATE
from train.data.prepared import PreparedClips
from train.decoder.adversary import Adversary
from train.decoder.generator import load_generator
from train.decoder.job import DecoderJob, FloatArray, SegmentPlan
from train.decoder.judge import ClipDistances, Delay, Judge, Verdict, judge_change, mean_of
from train.decoder.material import Material, MaterialClips, stored_identity
from train.decoder.preparing import BaseParts, material_identity, open_or_prepare
from train.decoder.tuning import TuningJob
from train.fit.memory import reason_if_memory
from train.loop import LoopOptions, Outcome, fit
from train.options import TrainingOptions

FOLDER = "decoder"
#: HiFi-GAN's (Kong et al. 2020); gradients of spectral distances are long.
_BETAS = (0.8, 0.99)
_MAX_NORM = 10.0
_WARMUP = 20
#: Held-out clips that are written to be listened to.
_SAMPLES = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DecoderResult:
    """What a start came to.

    Attributes:
        before, after: mean distances of the held-out clips, with the base's decoder and with the
            best one; `after` is empty before the first evaluation.
        change: of the spectral distances; None before the first evaluation.
        best_step, best: where the best decoder was, and its weights.
        base_sha256: of the weights file that training started from.
    """

    finished: bool
    reason: str
    step: int
    trained_s: float
    delay: int
    num_judged: int
    before: ClipDistances
    after: ClipDistances
    change: Verdict | None
    best_step: int
    best: Mapping[str, Tensor]
    base_sha256: str

    @property
    def is_better(self) -> bool:
        """Whether there is a decoder to hand over."""
        return self.change is not None and self.change.is_better

    def as_json(self) -> dict[str, Any]:
        """Returns plain values for programs."""
        names = ("finished", "reason", "step", "trained_s", "delay", "num_judged", "before")
        plain = {name: getattr(self, name) for name in (*names, "after", "best_step", "is_better")}
        return {**plain, "change": asdict(self.change) if self.change else None}


class DecoderRun:
    """One run, ready to start or to go on.

    Args:
        options: of the trainer.
        base: the model whose decoder is fine-tuned.
        clips: prepared for it.
        accelerator: runs the training.

    Raises:
        SettingsError: the folder holds another run, or too few clips are held out.
        AudioVoiceError: a recording or an array can't be read.
    """

    def __init__(
        self,
        options: TrainingOptions,
        base: BaseParts,
        clips: PreparedClips,
        accelerator: Accelerator,
    ) -> None:
        self._options = options
        self._base = base
        self._accelerator = accelerator
        self._scales = frame_scales(base.sizes, 1.0)
        self._num_codes = codes_of(options.decoder_segment_s, base.sizes.code_stride)
        self.folder = options.train_output_dir / FOLDER
        material = self.folder / "material"
        if accelerator.is_main_process:
            self._check_same_run_or_raise(material_identity(base, clips), material)
            open_or_prepare(material, base, clips, accelerator.device, options.batch_tokens)
        accelerator.wait_for_everyone()
        self._material = Material(material)
        sizes = base.sizes
        self._judge = Judge(
            self._material, self._scales, sizes.output_hop, sizes.output_sample_rate
        )
        self._generator = load_generator(base.state, sizes, base.bundle.weights)
        self._generator.to(accelerator.device)
        self._delay, self._before = self._measure_base()

    def run(self) -> DecoderResult:
        """Trains to the last step, or to where it is stopped; then it can be started again.

        Raises:
            DeviceError: a step does not fit into memory; code `out_of_memory`.
            OutputError: losses were not finite many steps in a row.
        """
        options = self._options
        job = self._tuning_job()
        loop = LoopOptions(
            steps=options.decoder_steps,
            rate=options.decoder_rate,
            warmup=_WARMUP,
            betas=_BETAS,
            clip=_MAX_NORM,
            save_every_s=60 * options.save_every_min,
            seed=options.train_seed,
        )
        try:
            outcome = fit(job, self._state_dir, loop, self._accelerator)
        except (RuntimeError, MemoryError) as error:
            reason = reason_if_memory(error, self._accelerator.device)
            if not reason:
                raise
            raise DeviceError(
                f"Out of memory ({reason}): set a smaller DECODER_BATCH or DECODER_SEGMENT_S, or "
                "end other programs on the device. What was saved is whole.",
                code="out_of_memory",
            ) from error
        if outcome.finished:
            job.evaluate(outcome.step)  # the last step may have been refused
        result = self._result(job, outcome)
        if self._accelerator.is_main_process:
            self._leave(job, result)
        return result

    @property
    def _state_dir(self) -> Path:
        return self.folder / "state"

    def _tuning_job(self) -> TuningJob:
        options, sizes = self._options, self._base.sizes
        adversary_from = options.decoder_steps - options.decoder_adversary_steps
        plan = SegmentPlan(
            batch=options.decoder_batch,
            codes=self._num_codes,
            scales=self._scales,
            hop=sizes.output_hop,
            sample_rate=sizes.output_sample_rate,
            seed=options.train_seed,
            adversary_from=adversary_from,
        )
        source = MaterialClips(self._material, self._num_codes, self._delay.value)
        num_short = len(self._material.side("train")) - len(source.clips)
        if num_short:
            _log.info("%d clips are shorter than a segment and are left out", num_short)
        adversary = None
        if options.decoder_adversary_steps:
            adversary = Adversary(self._accelerator, options.train_seed)
        return TuningJob(
            DecoderJob(self._generator, source, plan, adversary),
            self._judge if self._accelerator.is_main_process else None,
            delay=self._delay.value,
            every=options.decoder_eval_every,
            last_step=options.decoder_steps,
            counts_from=adversary_from + 1 if adversary else 1,
            told=self._tell,
        )

    def _measure_base(self) -> tuple[Delay, list[ClipDistances]]:
        """Returns delay and distances of the base's decoder, measured once a run."""
        path = self.folder / "base.json"
        if self._accelerator.is_main_process and not path.is_file():
            delay = self._judge.find_delay(self._generator)
            before = self._judge.distances(self._generator, delay.value)
            for number, clip in enumerate(self._judge.clips[:_SAMPLES], 1):
                self._write_sample(f"{number}_reference", self._judge.recording(clip))
            self._write_samples("before", delay.value)
            content = {"delay": list(delay.distances.items()), "before": before}
            write_atomic(path, json.dumps(content).encode())
        self._accelerator.wait_for_everyone()
        content = json.loads(path.read_text(encoding="utf-8"))
        distances = {int(tried): float(value) for tried, value in content["delay"]}
        delay = Delay(min(distances, key=lambda tried: distances[tried]), distances)
        _log.info("delay: %d codes, %s", delay.value, delay.reason)
        self._tell(0, mean_of(content["before"]))
        return delay, content["before"]

    def _check_same_run_or_raise(self, identity: str, material: Path) -> None:
        """Refuses a folder that holds the training of anything but these arrays."""
        if stored_identity(material) == identity:
            return
        if list_checkpoints(self._state_dir):
            raise SettingsError(
                f"{self.folder} holds the training of another model's decoder, on other clips, or "
                "by an earlier version: name another TRAIN_OUTPUT_DIR (--output), or remove the "
                "folder to start over.",
                param="TRAIN_OUTPUT_DIR",
            )
        (self.folder / "base.json").unlink(missing_ok=True)

    def _tell(self, step: int, means: ClipDistances) -> None:
        if not self._accelerator.is_main_process:
            return
        self._accelerator.log({f"held_out/{name}": value for name, value in means.items()}, step)
        _log.info(
            "held out at step %d: spectral %.4f (stft %.4f, mel %.4f), with drawn codes %.4f",
            *(step, *(means[name] for name in ("spectral", "stft", "mel", "drawn_spectral"))),
        )

    def _result(self, job: TuningJob, outcome: Outcome) -> DecoderResult:
        found = job.records.get(job.best_step, [])
        return DecoderResult(
            finished=outcome.finished,
            reason=outcome.reason,
            step=outcome.step,
            trained_s=round(outcome.trained_s, 1),
            delay=self._delay.value,
            num_judged=len(self._judge.clips),
            before=mean_of(self._before),
            after=mean_of(found) if found else {},
            change=judge_change(self._before, found) if found else None,
            best_step=job.best_step,
            best=job.best,
            base_sha256=self._base.sha256,
        )

    def _leave(self, job: TuningJob, result: DecoderResult) -> None:
        """Writes the report, and what the best decoder makes of the samples."""
        curve = {step: mean_of(found) for step, found in sorted(job.records.items())}
        report = {
            **result.as_json(),
            "delay_reason": self._delay.reason,
            "samples_of": [clip.name for clip in self._judge.clips[:_SAMPLES]],
            "held_out": curve,
        }
        write_atomic(self.folder / "report.json", (json.dumps(report, indent=1) + "\n").encode())
        if result.best and result.finished:
            self._generator.load_state_dict(dict(result.best))
            self._write_samples("after", result.delay)

    def _write_samples(self, kind: str, delay: int) -> None:
        for number, clip in enumerate(self._judge.clips[:_SAMPLES], 1):
            made = self._judge.aligned(self._generator, clip, delay)
            self._write_sample(f"{number}_{kind}", made)

    def _write_sample(self, name: str, samples: FloatArray) -> None:
        rate = self._base.sizes.output_sample_rate
        pcm = (samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes()
        write_atomic(self.folder / "samples" / f"{name}.wav", encode_whole("wav", rate, pcm))
        for tracker in self._accelerator.trackers:
            if tracker.name == "tensorboard":
                sound = torch.from_numpy(samples.copy())[None]
                tracker.writer.add_audio(f"samples/{name}", sound, 0, rate)


def codes_of(seconds: float, stride: int) -> int:
    """Returns the codes of a segment: two at least, for stretching lies between them."""
    return max(2, round(seconds * TRAINING_RATE / stride))


def check_options_or_raise(options: TrainingOptions) -> None:
    """Looks whether the settings fit each other, before anything is read.

    Raises:
        SettingsError: they don't.
    """
    if options.decoder_adversary_steps > options.decoder_steps:
        raise SettingsError(
            f"DECODER_ADVERSARY_STEPS={options.decoder_adversary_steps} are more than "
            f"DECODER_STEPS={options.decoder_steps}, of which they are the last.",
            param="DECODER_ADVERSARY_STEPS",
        )
