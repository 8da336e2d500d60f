"""kill -9 at random moments, saving included: every start goes on, and the weights are the same.

`FIT_KILLS=50` makes it fifty.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fit_runs import prepared_clips, tiny_bundle, weights_of

from app.isolation import child_environment
from train.checkpoints import list_checkpoints

KILLS = int(os.environ.get("FIT_KILLS", "6"))
CHILD = Path(__file__).parents[1] / "fit_child.py"
#: Steps between two kills, on average; a start is killed within that many steps of its first.
STEPS_BETWEEN = 4


def make_folders(*folders: Path) -> None:
    """Puts the same model and the same clips into each."""
    bundle = tiny_bundle(folders[0] / "base")
    prepared_clips(folders[0] / "clips", bundle, num_train=24)
    for folder in folders[1:]:
        shutil.copytree(folders[0], folder)


def start(folder: Path, epochs: int) -> subprocess.Popen[str]:
    environment = child_environment({"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"})
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(folder), str(epochs)],
        env={**environment, "PYTHONPATH": str(CHILD.parents[1])},
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr.txt").open("a"),
        text=True,
        start_new_session=True,
    )


def run_to_end(folder: Path, epochs: int) -> None:
    process = start(folder, epochs)
    process.communicate(timeout=280)
    assert process.returncode == 0, (folder / "stderr.txt").read_text()[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(300 + 30 * KILLS)
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    # 24 clips make about ten steps an epoch: enough of them for every kill to find some left
    epochs = 2 + KILLS * STEPS_BETWEEN // 10
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    make_folders(whole, broken)
    run_to_end(whole, epochs)

    rng = random.Random(11)
    killed, while_saving, with_links, steps_at_kill = 0, 0, 0, []
    for _ in range(KILLS):
        process = start(broken, epochs)
        assert process.stdout is not None
        wanted = rng.randint(1, STEPS_BETWEEN)
        last = ""
        for _ in range(wanted):
            last = process.stdout.readline() or last
        # anywhere within the next step and the saving behind it
        time.sleep(rng.random() * 0.15)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
            while_saving += any((broken / "out" / "state").glob(".step-*.part"))
            with_links += any((broken / "out" / "state").glob("beside-*.pt"))
            steps_at_kill.append(last.strip())
        process.wait()
        process.stdout.close()
    run_to_end(broken, epochs)

    print(
        f"{killed} kills at steps {' '.join(steps_at_kill)} of {epochs} epochs; "
        f"{while_saving} while saving, {with_links} with weights linked beside a state"
    )
    assert killed >= KILLS * 0.8
    last_epoch = f"out/checkpoints/checkpoint_epoch_{epochs}.pt"
    one, two = weights_of(whole / last_epoch), weights_of(broken / last_epoch)
    assert list(one) == list(two)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    # a finished run needs one state, and what is linked beside it, to be gone on with
    assert len(list_checkpoints(broken / "out" / "state")) == 1
    assert len(list((broken / "out" / "state").iterdir())) == 2
    _, *faults = (broken / "stderr.txt").read_text().split("Traceback")
    assert faults == []
