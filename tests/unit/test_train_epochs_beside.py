"""Jobs beside the training: what a child gives, and what one costs that hangs, dies or fails."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest
from training_runs import listen_plan

from train.epochs.beside import BesideRunner, Outcome, Patience
from train.epochs.job import ListenJob

#: Plays the child: `mode` comes first, then the job's and the result's path.
CHILD = """
import json, os, signal, subprocess, sys, time
mode, job, result = sys.argv[1:]
if mode == "slow_start":
    time.sleep(60)
print("speaking, 0 of 1 texts", flush=True)
if mode == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "60"])
    time.sleep(60)
if mode == "segv":
    os.kill(os.getpid(), signal.SIGSEGV)
if mode == "raises":
    raise RuntimeError("the disk is on fire")
if mode == "refuses":
    open(result, "w").write(json.dumps({"kind": "ModelFileError", "message": "no weights"}))
    sys.exit(3)
for _ in range(8):  # alive, and slower than the patience in all
    time.sleep(0.25)
    print("speaking on", flush=True)
epoch = json.load(open(job))["epoch"]
open(result, "w").write(json.dumps({"epoch": epoch, "sample": {"verdict": "ok"}}))
"""


def runner(tmp_path: Path, mode: str) -> BesideRunner:
    path = tmp_path / "child.py"
    path.write_text(CHILD)
    return BesideRunner(Patience(5.0, 1.5), [sys.executable, str(path), mode])


def job(tmp_path: Path, epoch: int = 1) -> ListenJob:
    return ListenJob(epoch, "", listen_plan(tmp_path), str(tmp_path), 1)


def wait(beside: BesideRunner) -> Outcome:
    outcome = beside.wait()
    assert outcome is not None
    return outcome


def test_a_child_that_gives_signs_of_life_may_take_its_time(tmp_path: Path) -> None:
    beside = runner(tmp_path, "works")
    beside.submit(job(tmp_path, 3))
    assert beside.poll() is None
    outcome = wait(beside)
    assert outcome.result is not None
    assert (outcome.result.epoch, outcome.result.sample.verdict) == (3, "ok")
    assert beside.wait() is None


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("hang", "did nothing for 2 s while speaking, 0 of 1 texts, and was killed"),
        ("slow_start", "did nothing for 5 s while starting, and was killed"),
        ("segv", "died of SIGSEGV while speaking"),
        ("raises", "ended with code 1 (RuntimeError: the disk is on fire)"),
        ("refuses", "no weights"),
    ],
)
def test_a_bad_end_costs_one_job(tmp_path: Path, mode: str, words: str) -> None:
    others = set(psutil.Process().children(recursive=True))
    beside = runner(tmp_path, mode)
    beside.submit(job(tmp_path))
    outcome = wait(beside)
    assert outcome.result is None
    assert words in outcome.fault
    assert set(psutil.Process().children(recursive=True)) <= others
    assert beside.num_left == 0


def test_jobs_wait_for_each_other_and_are_dropped_at_the_end(tmp_path: Path) -> None:
    others = set(psutil.Process().children(recursive=True))
    beside = runner(tmp_path, "works")
    for epoch in (1, 2, 3):
        beside.submit(job(tmp_path, epoch))
    assert [j.epoch for j in beside.jobs] == [1, 2, 3]
    assert wait(beside).job.epoch == 1
    assert [j.epoch for j in beside.jobs] == [2, 3]
    while beside.poll() is None:
        time.sleep(0.05)
    beside.close()
    assert beside.num_left == 0
    assert set(psutil.Process().children(recursive=True)) <= others
