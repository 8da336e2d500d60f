"""Joules out of the lines that `nvidia-smi` prints, and what is told where it prints none."""

from __future__ import annotations

import math
import sys
import time
from datetime import datetime

import pytest

from benchmarks import energy
from benchmarks.clients import Load, Reply
from benchmarks.energy import Reading, joules_between, parse_reading, power_meter

#: Prints readings without end, as the real one does.
PRINTS = """
import time
from datetime import datetime
while True:
    stamp = datetime.now().strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]
    print(f"{stamp}, 250.00", flush=True)
    time.sleep(0.05)
"""


def test_lines_are_read_as_they_are_printed() -> None:
    at = datetime(2025, 3, 1, 12, 0, 0, 100_000).timestamp()
    line = "2025/03/01 12:00:00.100, 71.25"
    for text in (line, line + "\n", line + " W"):
        assert parse_reading(text) == Reading(pytest.approx(at), 71.25)


@pytest.mark.parametrize(
    "line",
    [
        "2025/03/01 12:00:00.100, [N/A]",
        "2025/03/01 12:00:00.100, [Not Supported]",
        "2025/03/01 12:00:00.100, [Unknown Error]",
        "timestamp, power.draw [W]",
        "No devices were found",
        'Field "power.draw" is not a valid field to query.',
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure "
        "that the latest NVIDIA driver is installed and running.",
        "",
    ],
)
def test_lines_without_power_are_none(line: str) -> None:
    assert parse_reading(line) is None


def test_energy_is_the_area_under_the_readings() -> None:
    steady = [Reading(number / 10, 100.0) for number in range(51)]
    assert joules_between(steady, 1.0, 3.5) == pytest.approx(250)
    rising = [Reading(float(number), 100.0 * number) for number in range(4)]
    assert joules_between(rising, 0.0, 3.0) == pytest.approx(450)
    assert joules_between(rising, 0.5, 1.5) == pytest.approx(100)
    assert joules_between(rising, 1.25, 1.75) == pytest.approx(75)  # between two readings
    # a little beyond the last reading it goes on as it was
    assert joules_between(rising, 2.0, 3.5) == pytest.approx(250 + 150)


def test_a_gap_in_the_readings_is_no_energy() -> None:
    readings = [Reading(0.0, 100.0), Reading(0.5, 100.0), Reading(3.0, 100.0), Reading(3.5, 100.0)]
    assert joules_between(readings, 0.2, 3.2) is None
    assert joules_between(readings, 1.0, 2.0) is None
    assert joules_between(readings, 0.0, 0.5) == pytest.approx(50)
    assert joules_between(readings, 3.0, 3.5) == pytest.approx(50)
    assert joules_between(readings, 3.0, 9.0) is None
    assert joules_between(readings, -5.0, 0.4) is None
    assert joules_between([], 0.0, 1.0) is None


def test_a_load_is_divided_by_its_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 250 W, whatever the time; half a second of audio each time it is said."""
    monkeypatch.setattr(energy, "_SETTLE_S", 0.2)
    monkeypatch.setattr(energy, "_MEASURE_S", 0.5)
    monkeypatch.setattr(energy, "_MOST_GAP_S", 60.0)  # the machine may be busy
    began: list[float] = []

    def put() -> Load:
        began.append(time.time())
        time.sleep(0.1)
        return Load(1, 0.1, [Reply("a", 0.0, 0.1, bytes(24000))])

    with power_meter("GPU-1", (sys.executable, "-c", PRINTS)) as meter:
        assert meter is not None
        found = energy.joules_per_audio_s(meter, put)
        took_s = time.time() - began[0]
        nothing = energy.joules_per_audio_s(meter, lambda: Load(1, 0.1, []))
    # no less than what the sleeping took, and no more than all of it
    assert 250 * 0.1 / 0.5 <= found <= 250 * took_s / 0.5
    assert math.isnan(nothing)


@pytest.mark.parametrize(
    ("command", "timeout_s", "reason"),
    [
        (("nvidia-smi-of-nobody",), 60, "can't be started (No such file or directory)"),
        ((sys.executable, "-c", "print('2025/03/01 12:00:00.100, [N/A]')"), 60, "[N/A]"),
        ((sys.executable, "-c", "print('No devices were found'); exit(6)"), 60, "No devices"),
        ((sys.executable, "-c", ""), 60, "(nothing)"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), 1, "(nothing)"),
    ],
)
def test_a_card_that_tells_nothing_is_one_line(
    command: tuple[str, ...], timeout_s: float, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with power_meter("GPU-1", command, timeout_s) as meter:
        assert meter is None
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("no joules: ")
    assert reason in line
