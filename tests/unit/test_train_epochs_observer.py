"""A run as its observer sees it, with real checkpoints that speak in real child processes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import soundfile
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import (
    epoch_facts,
    kathleen_clips,
    run_plan,
    step_facts,
    write_checkpoint,
)

from app.devices.routes import Choice
from app.settings import Settings
from train.epochs import listener as listener_module
from train.epochs import setup
from train.epochs.beside import BesideRunner, Patience
from train.epochs.keeping import read_best
from train.epochs.observer import EpochWork
from train.epochs.setup import watch_epochs
from train.epochs.speaking import Place
from train.options import TrainingOptions

HERE = Path(__file__).resolve().parent
RUN = HERE.parent / "faults" / "run.py"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def shown() -> io.StringIO:
    return io.StringIO()


Watch = Callable[..., EpochWork]


@pytest.fixture
def watch(tmp_path: Path, output: Path, shown: io.StringIO) -> Watch:
    def make(runner: BesideRunner | None = None, **options: object) -> EpochWork:
        chosen = {"score_sentences": 2, "keep_checkpoints": 1, "tensorboard": False, **options}
        return watch_epochs(
            kathleen_clips(tmp_path),
            Settings(models_dir=tmp_path / "models", cache_dir=tmp_path / "cache", force_cpu=True),
            TrainingOptions(train_output_dir=output, export_at_end=False, **chosen),
            console=Console(file=shown, width=200),
            runner=runner,
        )

    return make


def run_epochs(work: EpochWork, output: Path, noises: list[float], first: int = 1) -> None:
    """Plays the loop; ten steps an epoch."""
    for epoch, noise in enumerate(noises, start=first):
        for step in range(10 * epoch - 9, 10 * epoch + 1):
            work.step_done(step_facts(step))
        checkpoint = write_checkpoint(output / "checkpoints", epoch, noise)
        work.epoch_done(epoch_facts(epoch, checkpoint, loss=4.0 - 0.2 * epoch + 5 * noise))


def told(output: Path, epoch: int) -> dict[str, object]:
    content: dict[str, object] = json.loads(
        (output / "samples" / f"epoch_{epoch}.json").read_text(encoding="utf-8")
    )
    return content


@pytest.mark.slow
def test_a_run_from_its_first_step_to_its_end(
    watch: Watch, output: Path, shown: io.StringIO
) -> None:
    others = set(psutil.Process().children(recursive=True))
    work = watch()
    work.run_begins(run_plan(output, num_epochs=2))
    run_epochs(work, output, [0.0, 0.2])  # the second one is spoilt
    work.run_ends("finished")
    assert set(psutil.Process().children(recursive=True)) <= others

    samples = output / "samples"
    first = told(output, 1)
    assert first["verdict"] in ("ok", "retried")
    assert (first["seed"], first["route"]) == (7, "cpu_subprocess")
    assert "FORCE_CPU" in str(first["route_reason"])
    for name in ("epoch_1_output.wav", "epoch_1_reference.wav", "epoch_2_reference.wav"):
        samples_read, rate = soundfile.read(samples / name)
        assert len(samples_read) > rate // 2
        assert abs(samples_read).max() > 0.05
    # the first epoch's weights are the starting model's, so the sample is too
    assert (samples / "epoch_1_output.wav").read_bytes() == (
        samples / "epoch_0_output.wav"
    ).read_bytes()
    assert first["scores"] == told(output, 0)["scores"]
    assert {"character_error_rate", "speaker_similarity_own_encoder", "duration_ratio"} <= set(
        first["scores"]
    )  # type: ignore[call-overload]

    best = read_best(output / "checkpoints")
    assert best is not None
    assert best.epoch == 1
    there = sorted(path.name for path in (output / "checkpoints").glob("*.pt"))
    assert there == ["checkpoint_epoch_1.pt", "checkpoint_epoch_2.pt"]  # the best and the newest
    assert "Best so far: epoch 1" in shown.getvalue()

    (run,) = (output.parent / "runs").iterdir()
    events = EventAccumulator(str(run), size_guidance={"audio": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "eval/loss", "run/audio_s_per_s", "scores/value"} <= set(tags["scalars"])
    assert {"samples/output", "samples/reference"} <= set(tags["audio"])
    assert "mels/output" in tags["images"]
    assert [e.step for e in events.Scalars("eval/loss")] == [10, 20]


@pytest.mark.slow
def test_a_resumed_run_listens_to_what_was_missed(
    watch: Watch, output: Path, shown: io.StringIO
) -> None:
    work = watch(score_sentences=0)
    work.run_begins(run_plan(output))
    run_epochs(work, output, [0.0])
    work.run_ends("asked to stop")  # before the child can have ended
    assert not (output / "samples" / "epoch_1.json").exists()

    work = watch(score_sentences=0)
    work.run_begins(run_plan(output, num_epochs=2, first_step=10))
    run_epochs(work, output, [0.0], first=2)
    work.run_ends("finished")
    assert all(told(output, epoch)["verdict"] in ("ok", "retried") for epoch in (0, 1, 2))
    assert len(list((output.parent / "runs").iterdir())) == 1  # the curves go on in one folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [("fft_segv", "died of SIGSEGV"), ("fft_hang", "killed")],
)
def test_a_child_that_breaks_costs_its_sample_and_a_word(
    watch: Watch,
    output: Path,
    shown: io.StringIO,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    words: str,
) -> None:
    command = [sys.executable, str(RUN), fault, "train.epochs.child"]
    silence_s = 12.0 if fault == "fft_hang" else 60.0
    work = watch(BesideRunner(Patience(silence_s, silence_s), command), score_sentences=0)
    (output / "samples").mkdir(parents=True)
    (output / "samples" / "epoch_1_output.wav").write_bytes(b"of an earlier run")
    work.run_begins(run_plan(output, num_epochs=1))
    run_epochs(work, output, [0.0])
    work.run_ends("finished")
    content = told(output, 1)
    assert (content["verdict"], content["output"]) == ("failed", None)
    assert words in str(content["notes"])
    assert not (output / "samples" / "epoch_1_output.wav").exists()
    assert (output / "samples" / "epoch_1_reference.wav").exists()
    assert "Training goes on" in caplog.text
    assert "Best so far: epoch 1" in shown.getvalue()  # by its loss


def gpu_route(monkeypatch: pytest.MonkeyPatch, fail_with: Exception | None = None) -> list[str]:
    """Makes the route `gpu`; the GPU is played by this process's CPU."""
    place = Place(torch.device("cpu"), torch.float32, "device", "played")
    monkeypatch.setattr(
        setup,
        "choose_place",
        lambda _settings: (Choice("gpu", "the probe saw nothing wrong"), place),
    )
    spoken = []
    healthy = listener_module.speak_texts

    def speak(job: object, place: Place) -> object:
        spoken.append("here")
        return healthy(job, place)  # type: ignore[arg-type]

    monkeypatch.setattr(listener_module, "speak_texts", speak)
    return spoken


@pytest.mark.slow
def test_the_gpu_route_speaks_in_this_process_and_hears_in_another(
    watch: Watch, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = gpu_route(monkeypatch)
    work = watch()
    before = torch.get_rng_state()
    work.run_begins(run_plan(output, num_epochs=1))
    run_epochs(work, output, [0.0])
    assert torch.equal(torch.get_rng_state(), before)  # or a resumed run would differ
    work.run_ends("finished")
    assert spoken == ["here", "here"]  # the starting model and the epoch
    content = told(output, 1)
    assert content["route"] == "gpu"
    assert content["verdict"] in ("ok", "retried")
    assert "character_error_rate" in content["scores"]  # type: ignore[operator]
