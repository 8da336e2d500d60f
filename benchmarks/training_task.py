"""What both trainers of the comparison are told, what they tell back, and how it is measured."""

from __future__ import annotations

import json
import os
import resource
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from train.optimizers import OptimizerKind


@dataclass(frozen=True)
class TrainingTask:
    """One training run in one process.

    Attributes:
        model: folder of a stock XTTS with its DVAE.
        data: folder of clips in LJSpeech's layout.
        clips: file of the prepared clips; says which of them judge.
        cache: folder of prepared clips.
        output: folder of the run.
        epochs: times that the clips are learnt from.
        threads: of torch; 0: as the trainer sets them itself.
        dtype: `float32`, `bfloat16` (autocast), or `auto`: as the trainer chooses itself.
        rows: clips in a batch of stock's.
        batch_tokens: positions in a batch of ours.
        accumulation: batches in a step of the optimizer.
        lora_rank: of adapters, of ours; 0: all weights are trained.
        optimizer: of ours.
    """

    model: str
    data: str
    clips: str
    cache: str
    output: str
    epochs: int
    threads: int
    dtype: str
    rows: int
    batch_tokens: int
    accumulation: int
    lora_rank: int = 0
    optimizer: OptimizerKind = "adamw"

    @classmethod
    def read(cls, path: Path) -> TrainingTask:
        """Reads what `write` wrote."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """Writes it for another process."""
        path.write_text(json.dumps(asdict(self)))


@dataclass(frozen=True)
class EpochMeasured:
    """One epoch.

    Attributes:
        audio_s: seconds of recordings learnt from, without padding.
        clips: how many that were.
        train_s, train_cpu_s: wall and processor seconds of the learning alone.
        whole_s: wall seconds with evaluation and saving.
        written_bytes: handed to the disk.
    """

    audio_s: float
    clips: int
    train_s: float
    train_cpu_s: float
    whole_s: float
    written_bytes: int
    eval_loss: float


@dataclass
class Measured:
    """What one process found.

    Attributes:
        peak_bytes: the most it had resident, libraries included, its own processes apart.
        held_bytes: the most that it and its processes held at once; see `training_memory`.
    """

    epochs: list[EpochMeasured] = field(default_factory=list)
    peak_bytes: int = 0
    held_bytes: int = 0
    left_bytes: int = 0
    total_s: float = 0.0
    written_bytes: int = 0
    threads: int = 0

    def write(self, path: Path) -> None:
        """Writes it for the process that compares."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Measured:
        """Reads what `write` wrote."""
        content: dict[str, Any] = json.loads(path.read_text())
        epochs = [EpochMeasured(**epoch) for epoch in content.pop("epochs")]
        return cls(epochs=epochs, **content)


class Meter:
    """Clocks and counters of this process and of the children it has waited for."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._written = written_bytes()
        self.measured = Measured()
        self._epoch = _Moment.now()
        self._train = _Moment.now()
        self._trained = (0.0, 0.0)

    def epoch_begins(self) -> None:
        """Starts the clock of an epoch."""
        self._epoch = _Moment.now()

    def training_begins(self) -> None:
        """Starts the clock of the learning."""
        self._train = _Moment.now()

    def training_ends(self) -> None:
        """Stops it."""
        now = _Moment.now()
        self._trained = (now.wall_s - self._train.wall_s, now.cpu_s - self._train.cpu_s)

    def epoch_ends(self, audio_s: float, clips: int, eval_loss: float) -> None:
        """Notes an epoch, and starts the next one's clock."""
        now = _Moment.now()
        self.measured.epochs.append(
            EpochMeasured(
                audio_s=audio_s,
                clips=clips,
                train_s=self._trained[0],
                train_cpu_s=self._trained[1],
                whole_s=now.wall_s - self._epoch.wall_s,
                written_bytes=now.written - self._epoch.written,
                eval_loss=eval_loss,
            )
        )
        self._epoch = now

    def result(self, output: Path, threads: int) -> Measured:
        """Returns everything, with what the run leaves in its folder."""
        measured = self.measured
        measured.total_s = time.perf_counter() - self._began
        measured.written_bytes = written_bytes() - self._written
        measured.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        measured.left_bytes = left_bytes(output)
        measured.threads = threads
        return measured


@dataclass(frozen=True)
class _Moment:
    wall_s: float
    cpu_s: float
    written: int

    @classmethod
    def now(cls) -> _Moment:
        return cls(time.perf_counter(), _cpu_s(), written_bytes())


def left_bytes(folder: Path) -> int:
    """Returns what the disk would gain if a folder went.

    A file with several names counts once, and not at all if one of them lies elsewhere.
    """
    names: Counter[tuple[int, int]] = Counter()
    sizes = {}
    for path in folder.rglob("*"):
        if path.is_file():
            facts = path.stat()
            names[facts.st_dev, facts.st_ino] += 1
            sizes[facts.st_dev, facts.st_ino] = (facts.st_size, facts.st_nlink)
    return sum(size for file, (size, links) in sizes.items() if names[file] == links)


def written_bytes() -> int:
    """Returns the bytes that this process and its ended children have written (Linux)."""
    lines = Path(f"/proc/{os.getpid()}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
