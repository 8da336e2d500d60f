"""Our fine-tuning beside coqui's GPTTrainer: the same model, clips and machine, in one run.

Each trains in a process of its own, one after the other, several times in turn; medians are taken.
Each as its own defaults are (coqui's by its LJSpeech recipe) at an equal effective batch, and again
with equal batches, threads and number format. Epochs after the first count. Prints a
table and, last, one JSON line.

    python -m benchmarks.training_beside_stock --data my_voice --layers 8 --width 512
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.training_task import EpochMeasured, Measured, TrainingTask

STOCK, OURS = "benchmarks.training_stock", "benchmarks.training_ours"
MODEL = "benchmarks.training_model"
CHECKPOINT = "benchmarks.training_checkpoint"
#: Of coqui's recipe.
RECIPE_ROWS = 3
_PROMPT_POSITIONS = 32
_OUR_BATCH_TOKENS = 4096
#: Columns of the table: name, unit, digits.
_FIGURES = (
    ("throughput", "s of audio per s", 2),
    ("cpu_throughput", "s of audio per CPU s", 2),
    ("epoch_s", "s per epoch, all in", 1),
    ("peak_mb", "MB of memory at most", 0),
    ("written_mb", "MB written per epoch", 0),
    ("left_mb", "MB left on the disk", 0),
)


@dataclass(frozen=True)
class Comparison:
    """Two runs to compare."""

    name: str
    stock: TrainingTask
    ours: TrainingTask


def figures(measured: Measured) -> dict[str, float]:
    """Returns what one run is judged by.

    The first epoch warms caches up and counts for memory and disk only. What is written per epoch
    is all that was written, the end of the run included, over all epochs.
    """
    later: Sequence[EpochMeasured] = measured.epochs[1:] or measured.epochs
    audio_s = sum(epoch.audio_s for epoch in later)
    return {
        "throughput": audio_s / sum(epoch.train_s for epoch in later),
        "cpu_throughput": audio_s / sum(epoch.train_cpu_s for epoch in later),
        "epoch_s": statistics.mean(epoch.whole_s for epoch in later),
        "peak_mb": measured.peak_bytes / 1e6,
        "written_mb": measured.written_bytes / 1e6 / len(measured.epochs),
        "left_mb": measured.left_bytes / 1e6,
        # stock draws clips with replacement: an epoch's audio varies
        "audio_s_per_epoch": audio_s / len(later),
        "clips_per_epoch": statistics.mean(epoch.clips for epoch in later),
        "eval_loss": measured.epochs[-1].eval_loss,
        "threads": measured.threads,
    }


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def run_child(module: str, task: TrainingTask, folder: Path, *, keep: bool = False) -> Measured:
    """Trains in a process of its own and returns what it measured; `keep` leaves its files."""
    asked, answer, log = folder / "task.json", folder / "result.json", folder / "child.log"
    task.write(asked)
    answer.unlink(missing_ok=True)
    shutil.rmtree(task.output, ignore_errors=True)
    Path(task.output).mkdir(parents=True)
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", module, str(asked), str(answer)]
    with log.open("w") as stream:
        done = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, check=False
        )
    if done.returncode or not answer.is_file():
        tail = log.read_text(errors="replace")[-3000:]
        raise SystemExit(f"{module} ended with {done.returncode}:\n{tail}")
    if not keep:
        shutil.rmtree(task.output)
    return Measured.read(answer)


def run_module(module: str, *arguments: str) -> str:
    """Runs one of ours in a process of its own and returns the last line that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return (done.stdout.strip().splitlines() or [""])[-1]


def subset(data: Path, folder: Path, count: int) -> None:
    """Makes a folder of the first clips of an LJSpeech data set."""
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, delimiter="|", quoting=csv.QUOTE_NONE))
    folder.mkdir(parents=True)
    (folder / "wavs").symlink_to((data / "wavs").resolve())
    lines = ("|".join(row) for row in rows[:count])
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(task: TrainingTask) -> tuple[Path, float]:
    """Prepares the clips as `python -m train prepare` does; returns their list and the seconds."""
    started = time.perf_counter()
    environment = {**os.environ, "TRAIN_CACHE_DIR": task.cache, "TRAIN_OUTPUT_DIR": task.output}
    command = [sys.executable, "-m", "train", "prepare", task.data, "--base", task.model]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    found = sorted(Path(task.cache).rglob("run-*.json"))
    return found[0], time.perf_counter() - started


def comparisons(task: TrainingTask, threads: int) -> list[Comparison]:
    """Returns what is compared: at the defaults, and with all equal."""
    from train.data.prepared import PreparedClips

    clips = PreparedClips.open(Path(task.clips)).side("train")
    mean = sum(clip.num_positions + _PROMPT_POSITIONS for clip in clips) / len(clips)
    per_step = min(len(clips), _OUR_BATCH_TOKENS / mean)
    accumulation = max(1, round(per_step / RECIPE_ROWS))
    stock = replace(task, accumulation=accumulation)
    # batches of as many clips as stock's; the longest clips decide, so a little more room
    small = replace(
        task,
        threads=threads,
        batch_tokens=round(RECIPE_ROWS * mean * 1.15),
        accumulation=accumulation,
    )
    equal = replace(stock, threads=threads)
    return [
        Comparison("defaults, equal effective batch", stock, replace(task, dtype="auto")),
        Comparison("equal batches, threads, float32", equal, small),
        Comparison(
            "equal batches, threads, bfloat16",
            replace(equal, dtype="bfloat16"),
            replace(small, dtype="bfloat16"),
        ),
    ]


def show(name: str, stock: Mapping[str, float], ours: Mapping[str, float]) -> None:
    """Prints one comparison."""
    print(f"\n{name} (threads: coqui {stock['threads']:.0f}, ours {ours['threads']:.0f})")
    print(f"{'':>24}{'coqui':>12}{'ours':>12}{'ratio':>8}")
    for key, unit, digits in _FIGURES:
        ratio = ours[key] / stock[key]
        print(f"{unit:>24}{stock[key]:>12.{digits}f}{ours[key]:>12.{digits}f}{ratio:>8.2f}")


def compare(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Runs everything and returns it."""
    subset(options.data, folder / "data", options.clips)
    run_module(MODEL, str(folder / "model"), str(options.layers), str(options.width))
    task = TrainingTask(
        model=str(folder / "model"),
        data=str(folder / "data"),
        clips="",
        cache=str(folder / "cache"),
        output=str(folder / "output"),
        epochs=options.epochs,
        threads=0,
        dtype="float32",
        rows=RECIPE_ROWS,
        batch_tokens=_OUR_BATCH_TOKENS,
        accumulation=1,
    )
    if options.full_shape_checkpoint:
        return check_checkpoint(replace(task, dtype="auto"), folder)
    path, prepare_s = prepare(task)
    found: dict[str, object] = {
        "layers": options.layers,
        "width": options.width,
        "prepare_s": prepare_s,
    }
    for comparison in comparisons(replace(task, clips=str(path)), options.threads):
        if options.only and not comparison.name.startswith(options.only):
            continue
        runs: dict[str, list[dict[str, float]]] = {"stock": [], "ours": []}
        for number in range(options.runs):
            for who, module, job in (
                ("stock", STOCK, comparison.stock),
                ("ours", OURS, comparison.ours),
            ):
                runs[who].append(figures(run_child(module, job, folder)))
                print(f"{comparison.name}, {who} {number + 1}: {runs[who][-1]}", file=sys.stderr)
        stock, ours = medians(runs["stock"]), medians(runs["ours"])
        show(comparison.name, stock, ours)
        ratios = {key: ours[key] / stock[key] for key, *_ in _FIGURES}
        found[comparison.name] = {"stock": stock, "ours": ours, "ratios": ratios, "runs": runs}
    return found


def check_checkpoint(task: TrainingTask, folder: Path) -> dict[str, object]:
    """Trains with ours alone, and lets coqui-tts load what came of it and speak with it."""
    measured = run_child(OURS, task, folder, keep=True)
    path = Path(task.output) / "checkpoints" / f"checkpoint_epoch_{task.epochs}.pt"
    checked = run_module(CHECKPOINT, str(path))
    print(checked)
    return {**figures(measured), **json.loads(checked)}


def main() -> None:
    """Reads the options, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="clips in LJSpeech's layout")
    parser.add_argument("--clips", type=int, default=64, help="clips taken of them")
    parser.add_argument("--layers", type=int, default=8, help="of the GPT; XTTS-v2 has 30")
    parser.add_argument("--width", type=int, default=512, help="of the GPT; XTTS-v2 has 1024")
    parser.add_argument("--epochs", type=int, default=3, help="of each run; the first warms up")
    parser.add_argument("--runs", type=int, default=3, help="of each; medians are taken")
    parser.add_argument("--threads", type=int, default=2, help="of both, where they are equal")
    parser.add_argument("--only", default="", help="comparisons whose name begins with this")
    parser.add_argument(
        "--full-shape-checkpoint",
        action="store_true",
        help="instead: one epoch of ours at XTTS-v2's shape, and its checkpoint in coqui-tts",
    )
    options = parser.parse_args()
    if options.full_shape_checkpoint:
        options.layers, options.width, options.epochs = 30, 1024, 1
    with tempfile.TemporaryDirectory(prefix="training-beside-stock-") as name:
        result = compare(options, Path(name))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
