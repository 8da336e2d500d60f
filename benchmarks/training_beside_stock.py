"""Our fine-tuning beside coqui's GPTTrainer: the same model, clips and machine, in one run.

Each trains in a process of its own, one after the other, several times in turn; medians are taken.
Each as its own defaults are (coqui's by its LJSpeech recipe) at an equal effective batch, with our
options that save memory beside them, and again with equal batches, threads and number format.
Epochs after the first count. Prints tables and, last, one JSON line.

    python -m benchmarks.training_beside_stock --data my_voice --layers 8 --width 512

A long comparison can be made in pieces: `--add-to results.json --only equal --runs 1`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from app.files import write_atomic
from benchmarks.training_memory import MemoryWatch
from benchmarks.training_table import figures, ratios, spreads, table
from benchmarks.training_task import Measured, TrainingTask

STOCK, OURS = "benchmarks.training_stock", "benchmarks.training_ours"
MODEL = "benchmarks.training_model"
CHECKPOINT = "benchmarks.training_checkpoint"
#: Of coqui's recipe.
RECIPE_ROWS = 3
_PROMPT_POSITIONS = 32
_OUR_BATCH_TOKENS = 4096
_LORA_RANK = 16


@dataclass(frozen=True)
class Comparison:
    """Runs to compare: stock's, and one or more ways of ours by their names."""

    name: str
    stock: TrainingTask
    ours: Mapping[str, TrainingTask]

    def jobs(self) -> dict[str, tuple[str, TrainingTask]]:
        """Returns what each side runs: a module and its task."""
        ours = {name: (OURS, task) for name, task in self.ours.items()}
        return {"coqui": (STOCK, self.stock), **ours}


def run_child(module: str, task: TrainingTask, folder: Path, *, keep: bool = False) -> Measured:
    """Trains in a process of its own and returns what it measured; `keep` leaves its files."""
    asked, answer, log = folder / "task.json", folder / "result.json", folder / "child.log"
    task.write(asked)
    answer.unlink(missing_ok=True)
    shutil.rmtree(task.output, ignore_errors=True)
    Path(task.output).mkdir(parents=True)
    # as `python -m train` waits; coqui's gains by it too
    environment = {"GOMP_SPINCOUNT": "10000", **os.environ}
    command = [sys.executable, "-m", module, str(asked), str(answer)]
    with (
        log.open("w") as stream,
        subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment
        ) as process,
        MemoryWatch(process.pid) as memory,
    ):
        code = process.wait()
    if code or not answer.is_file():
        tail = log.read_text(errors="replace")[-3000:]
        raise SystemExit(f"{module} ended with {code}:\n{tail}")
    if not keep:
        shutil.rmtree(task.output)
    return replace(Measured.read(answer), held_bytes=memory.peak_bytes)


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
    """Returns what is compared: at the defaults and with what saves memory, and with all equal."""
    from train.data.prepared import PreparedClips

    clips = PreparedClips.open(Path(task.clips)).side("train")
    mean = sum(clip.num_positions + _PROMPT_POSITIONS for clip in clips) / len(clips)
    per_step = min(len(clips), _OUR_BATCH_TOKENS / mean)
    accumulation = max(1, round(per_step / RECIPE_ROWS))
    stock = replace(task, accumulation=accumulation)
    ours = replace(task, dtype="auto")
    # batches of as many clips as stock's; the longest clips decide, so a little more room
    small = replace(
        task,
        threads=threads,
        batch_tokens=round(RECIPE_ROWS * mean * 1.15),
        accumulation=accumulation,
    )
    equal = replace(stock, threads=threads)
    options = {
        "8-bit AdamW": replace(ours, optimizer="adamw8bit"),
        "LoRA": replace(ours, lora_rank=_LORA_RANK),
    }
    return [
        Comparison("defaults, equal effective batch", stock, {"ours": ours, **options}),
        Comparison("equal batches, threads, float32", equal, {"ours": small}),
        Comparison(
            "equal batches, threads, bfloat16",
            replace(equal, dtype="bfloat16"),
            {"ours": replace(small, dtype="bfloat16")},
        ),
    ]


def make_task(options: argparse.Namespace, folder: Path) -> TrainingTask:
    """Makes model and clips in a folder, unless an earlier call has, and returns the task."""
    if not (folder / "model").exists():
        shutil.rmtree(folder / "data", ignore_errors=True)
        subset(options.data, folder / "data", options.clips)
        part = folder / "model.part"
        run_module(MODEL, str(part), str(options.layers), str(options.width))
        part.rename(folder / "model")
    return TrainingTask(
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


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs everything and returns it, with what `--add-to` holds of earlier calls."""
    task = make_task(options, folder)
    if options.full_shape_checkpoint:
        return check_checkpoint(replace(task, dtype="auto"), folder)
    path, prepare_s = prepare(task)
    shape = {"layers": options.layers, "width": options.width, "clips": options.clips}
    found = read_earlier(options.add_to, shape)
    found.setdefault("prepare_s", prepare_s)
    for comparison in comparisons(replace(task, clips=str(path)), options.threads):
        if not comparison.name.startswith(options.only):
            continue
        runs = found["comparisons"].setdefault(comparison.name, {})
        for number in range(options.runs):
            for side, (module, job) in comparison.jobs().items():
                measured = figures(run_child(module, job, folder))
                runs.setdefault(side, []).append(measured)
                print(f"{comparison.name}, {side} {number + 1}: {measured}", file=sys.stderr)
            # after each turn: a call that is stopped loses one at most
            if options.add_to is not None:
                write_atomic(options.add_to, json.dumps(found, indent=1).encode())
    return found


def read_earlier(path: Path | None, shape: dict[str, int]) -> dict[str, Any]:
    """Returns the runs of earlier calls, or none; those of other models or clips are refused."""
    if path is None or not path.exists():
        return {**shape, "comparisons": {}}
    found: dict[str, Any] = json.loads(path.read_text())
    other = {key: found.get(key) for key in shape if found.get(key) != shape[key]}
    if other:
        raise SystemExit(f"{path} holds runs with other settings: {other}; name another file.")
    return found


def with_summaries(found: dict[str, Any]) -> dict[str, Any]:
    """Returns the runs with medians, least and most of each figure, and ratios to stock's."""
    out: dict[str, Any] = {**found, "summaries": {}}
    for name, sides in found["comparisons"].items():
        spread = {side: spreads(runs) for side, runs in sides.items()}
        out["summaries"][name] = {
            side: {
                "figures": {key: asdict(value) for key, value in values.items()},
                "ratios": ratios(spread["coqui"], values),
            }
            for side, values in spread.items()
        }
    return out


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
    parser.add_argument("--add-to", type=Path, help="file of results; earlier runs in it count too")
    parser.add_argument("--work-dir", type=Path, help="keeps model and clips for the next call")
    parser.add_argument(
        "--full-shape-checkpoint",
        action="store_true",
        help="instead: one epoch of ours at XTTS-v2's shape, and its checkpoint in coqui-tts",
    )
    options = parser.parse_args()
    if options.full_shape_checkpoint:
        options.layers, options.width, options.epochs = 30, 1024, 1
    with tempfile.TemporaryDirectory(prefix="training-beside-stock-") as name:
        folder = options.work_dir or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        result = compare(options, folder)
    if options.full_shape_checkpoint:
        print(json.dumps(result))
        return
    for comparison, sides in result["comparisons"].items():
        print(f"\n{table(comparison, sides)}")
    print(json.dumps(with_summaries(result)))


if __name__ == "__main__":
    main()
