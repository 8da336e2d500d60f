"""The comparison of trainers: what it counts, and how it sums up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.training_beside_stock import read_earlier, with_summaries
from benchmarks.training_memory import MemoryWatch, family
from benchmarks.training_table import ROWS, figures, spreads, table
from benchmarks.training_task import EpochMeasured, Measured, left_bytes

#: A process that starts another one; both hold so many bytes, and share what the first has made
#: before.
HOLDING = """
import os, sys, time
size = int(sys.argv[1])
shared = bytearray(os.urandom(1) * size)
child = os.fork()
own = bytearray(os.urandom(1) * size)
print("holding", flush=True)
time.sleep(60)
"""


def test_memory_of_a_process_and_its_child_counts_shared_pages_once() -> None:
    size = 64_000_000
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(size)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(2):
            process.stdout.readline()
        with MemoryWatch(process.pid) as memory:
            found = family(process.pid)
            deadline = time.monotonic() + 30
            while memory.peak_bytes == 0 and time.monotonic() < deadline:
                time.sleep(0.05)
        for pid in reversed(found):
            os.kill(pid, 9)
    assert len(found) == 2
    # what was made before the fork, and one for each; an interpreter takes some 10 MB
    assert 3 * size < memory.peak_bytes < 3 * size + 60_000_000


def test_a_linked_file_counts_where_all_its_names_are(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "one").write_bytes(bytes(1000))
    os.link(folder / "one", folder / "same")
    (tmp_path / "base").write_bytes(bytes(500))
    os.link(tmp_path / "base", folder / "base")
    assert left_bytes(folder) == 1000


def measured(train_s: float) -> Measured:
    epochs = [EpochMeasured(60, 20, s, s * 2, s + 1, 5, 3.0) for s in (99.0, train_s, train_s)]
    return Measured(epochs, 3_000_000, 4_000_000, 7_000_000, 9.0, 6_000_000, 2)


def test_figures_leave_the_first_epoch_out_but_for_memory_and_disk() -> None:
    found = figures(measured(20))
    assert found["throughput"] == pytest.approx(3)
    assert found["cpu_throughput"] == pytest.approx(1.5)
    assert found["epoch_s"] == pytest.approx(21)
    assert (found["peak_mb"], found["held_mb"], found["left_mb"]) == (3, 4, 7)
    assert found["written_mb"] == 2


def test_the_table_has_medians_the_spread_and_ratios() -> None:
    sides = {
        "coqui": [figures(measured(s)) for s in (60, 20, 30)],
        "ours": [figures(measured(s)) for s in (10, 20, 12)],
    }
    assert spreads(sides["coqui"])["throughput"].median == pytest.approx(2)
    lines = table("defaults", sides).splitlines()
    assert lines[2] == "| | coqui | ours | ratio |".replace("| |", "|  |")
    assert lines[4] == "| s of audio per s | 2.00 (1.00 to 3.00) | 5.00 (3.00 to 6.00) | 2.50 |"
    assert len(lines) == 4 + len(ROWS)
    assert "runs: 3" in lines[0]
    out = with_summaries({"layers": 8, "comparisons": {"defaults": sides}})
    summary = out["summaries"]["defaults"]["ours"]
    assert summary["ratios"]["throughput"] == pytest.approx(2.5)
    assert summary["figures"]["throughput"] == {
        "median": pytest.approx(5),
        "least": pytest.approx(3),
        "most": pytest.approx(6),
    }


def test_runs_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    shape = {"layers": 8, "width": 512}
    assert read_earlier(path, shape) == {**shape, "comparisons": {}}
    path.write_text('{"layers": 8, "width": 256, "comparisons": {}}')
    with pytest.raises(SystemExit, match=r"holds runs with other settings: \{'width': 256\}"):
        read_earlier(path, shape)
