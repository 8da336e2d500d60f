"""Where checkpoints speak, and what follows when the device fails in the middle of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training_runs import listen_plan

from app.devices.routes import Choice
from app.errors import AudioVoiceError, DeviceError, ModelFileError
from train.epochs import listener as listener_module
from train.epochs.beside import BesideRunner, Patience
from train.epochs.job import ListenJob
from train.epochs.listener import Listener
from train.epochs.speaking import Place


class Recorder(BesideRunner):
    """Takes jobs and starts no process."""

    def __init__(self) -> None:
        super().__init__(Patience(1.0, 1.0))
        self.taken: list[ListenJob] = []

    def submit(self, job: ListenJob) -> None:
        self.taken.append(job)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def listener(tmp_path: Path, recorder: Recorder) -> Iterator[Listener]:
    """One that speaks on a GPU; this process's CPU plays it."""
    place = Place(torch.device("cpu"), torch.float32, "device", "played")
    route = Choice("gpu", "the probe saw nothing wrong")
    made = Listener(listen_plan(tmp_path), tmp_path, route, place, recorder)
    yield made
    made.close()


def fail_with(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[int]:
    """Lets speaking in this process fail, once with each error; returns the epochs tried."""
    left, tried = list(errors), []

    def speak(job: ListenJob, place: Place) -> None:
        tried.append(job.epoch)
        raise left.pop(0)

    monkeypatch.setattr(listener_module, "speak_texts", speak)
    return tried


def test_a_broken_fft_sends_this_and_all_further_samples_to_a_child(
    listener: Listener,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fault = DeviceError("The work on cuda failed: CUFFT_INVALID_SIZE", code="fft_failed")
    tried = fail_with(monkeypatch, fault)
    for epoch in (1, 2):
        listener.begin(epoch, "checkpoint.pt")
    assert tried == [1]
    assert [job.epoch for job in recorder.taken] == [1, 2]
    assert listener.route.choice == "cpu_subprocess"
    assert "CUFFT_INVALID_SIZE" in listener.route.reason
    assert "From now on samples are made on the CPU" in caplog.text


def test_want_of_memory_costs_one_sample_its_speed(
    listener: Listener, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = DeviceError("CUDA out of memory", code="out_of_memory")
    tried = fail_with(monkeypatch, full, full)
    for epoch in (1, 2):
        listener.begin(epoch, "checkpoint.pt")
    assert tried == [1, 2]
    assert [job.epoch for job in recorder.taken] == [1, 2]
    assert listener.route.choice == "gpu"


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: unspecified launch failure")])
def test_an_error_of_no_known_kind_leaves_the_gpu_too(
    listener: Listener, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fail_with(monkeypatch, error)
    listener.begin(1, "checkpoint.pt")
    assert [job.epoch for job in recorder.taken] == [1]
    assert listener.route.choice == "cpu_subprocess"


def test_what_another_device_would_not_mend_is_told(
    listener: Listener, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    error: AudioVoiceError = ModelFileError("checkpoint.pt is cut short")
    fail_with(monkeypatch, error)
    listener.begin(1, "checkpoint.pt")
    outcome = listener.poll()
    assert recorder.taken == []
    assert outcome is not None
    assert (outcome.result, outcome.fault) == (None, "checkpoint.pt is cut short")
