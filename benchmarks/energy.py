"""Joules by a card's own sensor: `nvidia-smi` in a child process, integrated over the time.

`power.draw` is the mean of the last second on cards since Ampere (nvidia-smi's own help), so what
is measured has to last: work begins a while before the clock does, and goes on for seconds.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import numpy as np

from benchmarks.clients import Load

#: Lines as `2025/03/01 12:00:00.100, 71.25`: the time is of the reading, whenever it arrives.
_COMMAND = (
    *("nvidia-smi", "--query-gpu=timestamp,power.draw"),
    *("--format=csv,noheader,nounits", "--loop-ms=100"),
)
_TIME_FORMAT = "%Y/%m/%d %H:%M:%S.%f"
#: Further apart than this, readings say nothing of what was drawn between them.
_MOST_GAP_S = 1.0
_FIRST_READING_S = 20.0
_LAST_READING_S = 3.0
#: Work before the clock begins, and then at least.
_SETTLE_S = 1.5
_MEASURE_S = 3.0


class Reading(NamedTuple):
    """Power in watts at a time in seconds since the epoch."""

    time_s: float
    watts: float


def parse_reading(line: str) -> Reading | None:
    """Returns what a line of `nvidia-smi` tells; None for `[N/A]`, an error or anything else."""
    stamp, _, power = line.strip().partition(", ")
    try:
        time_s = datetime.strptime(stamp, _TIME_FORMAT).timestamp()  # of this machine's zone
        watts = float(power.removesuffix(" W"))
    except ValueError:
        return None
    return Reading(time_s, watts)


def joules_between(readings: Sequence[Reading], began_s: float, ended_s: float) -> float | None:
    """Returns the energy between two times in joules: the trapezoids under the readings.

    None where the readings leave a gap there. Before the first and after the last, within such a
    gap, the power is taken to be theirs.
    """
    times = np.array([reading.time_s for reading in readings])
    watts = np.array([reading.watts for reading in readings])
    inner = (times > began_s) & (times < ended_s)
    if not len(times) or began_s < times[0] - _MOST_GAP_S or ended_s > times[-1] + _MOST_GAP_S:
        return None
    first = max(0, int(np.searchsorted(times, began_s, side="right")) - 1)
    last = int(np.searchsorted(times, ended_s)) + 1
    if (np.diff(times[first:last]) > _MOST_GAP_S).any():
        return None
    grid = np.array([began_s, *times[inner], ended_s])
    power = np.interp(grid, times, watts)
    return float(((power[1:] + power[:-1]) / 2 * np.diff(grid)).sum())


class PowerMeter:
    """Readings of one card for as long as the child lives."""

    def __init__(self, command: Sequence[str]) -> None:
        """Starts the child.

        Raises:
            OSError: there is no such program.
        """
        self.readings: list[Reading] = []
        self.last_words = ""
        self._child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            reading = parse_reading(line)
            if reading is None:
                self.last_words = line.strip() or self.last_words
            else:
                self.readings.append(reading)

    def wait_for_reading(self, after_s: float, timeout_s: float) -> bool:
        """Waits until there is a reading of that time or later; False where none will come."""
        end = time.monotonic() + timeout_s
        while not self.readings or self.readings[-1].time_s < after_s:
            is_told_off = not self.readings and self.last_words
            if not self._thread.is_alive() or is_told_off or time.monotonic() > end:
                return bool(self.readings) and self.readings[-1].time_s >= after_s
            time.sleep(0.02)
        return True

    def joules(self, began_s: float, ended_s: float) -> float | None:
        """Returns the energy between two times of `time.time()`; None where it is not known."""
        self.wait_for_reading(ended_s, _LAST_READING_S)
        return joules_between(list(self.readings), began_s, ended_s)

    def stop(self) -> None:
        """Ends the child."""
        self._child.kill()
        self._child.wait()
        self._thread.join()
        assert self._child.stdout is not None
        self._child.stdout.close()


@contextmanager
def power_meter(
    card: str, command: Sequence[str] = _COMMAND, timeout_s: float = _FIRST_READING_S
) -> Iterator[PowerMeter | None]:
    """Measures a card's power within the block; None, and a line that says so, where it can't.

    Args:
        card: its UUID as `nvidia-smi` takes it.
        command: what prints readings; `--id` is added.
        timeout_s: longest wait for the first.
    """
    try:
        meter = PowerMeter([*command, f"--id={card}"])
    except OSError as error:
        print(f"no joules: {command[0]} can't be started ({error.strerror})", flush=True)
        yield None
        return
    try:
        if meter.wait_for_reading(0.0, timeout_s):
            yield meter
        else:
            said = meter.last_words or "nothing"
            print(f"no joules: the card does not tell its power ({said})", flush=True)
            yield None
    finally:
        meter.stop()


def joules_per_audio_s(meter: PowerMeter, put_load: Callable[[], Load]) -> float:
    """Returns what the whole card draws for a second of audio, in joules, idle power included.

    Args:
        meter: of the card.
        put_load: puts the load once; called again and again for some seconds.

    Returns:
        Not a number where readings are missing, or nothing was said.
    """
    _repeat(put_load, _SETTLE_S)
    began_s = time.time()
    loads = _repeat(put_load, _MEASURE_S)
    joules = meter.joules(began_s, time.time())
    audio_s = sum(reply.audio_s for load in loads for reply in load.good)
    return joules / audio_s if joules is not None and audio_s else float("nan")


def _repeat(put_load: Callable[[], Load], seconds: float) -> list[Load]:
    end = time.monotonic() + seconds
    loads = [put_load()]
    while time.monotonic() < end:
        loads.append(put_load())
    return loads
