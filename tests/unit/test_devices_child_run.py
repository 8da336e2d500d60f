"""Children that talk, babble, fall silent or die are read to their end and leave nobody."""

from __future__ import annotations

import signal
import sys

import pytest

from app.devices.child_run import ChildRun, Deadlines, run_probe_child
from app.devices.progress import Finished, StageBegun

QUICK = Deadlines(start_s=20, operation_s=0.5, total_s=20)
STAGE = """print('{"type":"stage","stage":"fft"}', flush=True)\n"""


def run(code: str, deadlines: Deadlines = QUICK) -> ChildRun:
    return run_probe_child([sys.executable, "-c", code], deadlines)


def test_events_are_told_from_talk_and_split_lines() -> None:
    code = (
        "import sys, time\n"
        "print('Loading libraries ...', flush=True)\n"
        'sys.stdout.write(\'{"type":"sta\'); sys.stdout.flush(); time.sleep(0.1)\n'
        'print(\'ge","stage":"fft"}\\n{"type":"finished"}\')\n'
    )
    result = run(code)
    assert result.events == (StageBegun("fft"), Finished())
    assert (result.returncode, result.signal, result.fell_silent) == (0, None, False)


def test_silence_within_a_stage_is_ended() -> None:
    result = run(STAGE + "import time; time.sleep(60)")
    assert result.fell_silent
    assert result.signal is None  # it was us
    assert 0.5 <= result.silent_for_s < 3
    assert not result.out_of_time


def test_deadline_of_the_whole_ends_a_child_that_never_falls_silent() -> None:
    code = f"import time\nwhile True:\n    {STAGE}    time.sleep(0.05)"
    result = run(code, Deadlines(start_s=20, operation_s=5, total_s=1.5))
    assert result.fell_silent
    assert result.out_of_time
    assert result.duration_s < 6


def test_child_that_closes_its_stdout_and_stays_is_ended() -> None:
    deadlines = Deadlines(start_s=20, operation_s=5, total_s=20, leave_s=0.3)
    result = run(STAGE + "import os, time; os.close(1); time.sleep(60)", deadlines)
    assert result.events == (StageBegun("fft"),)
    assert result.duration_s < 5


def test_child_that_leaves_a_grandchild_on_its_stdout_died_and_did_not_hang() -> None:
    code = STAGE + "import os, subprocess; subprocess.Popen(['sleep', '60']); os.abort()"
    result = run(code)
    assert not result.fell_silent
    assert result.signal == signal.SIGABRT


def test_flood_of_talk_does_not_block() -> None:
    result = run(STAGE + "import sys\nfor _ in range(50_000): print('x' * 100, file=sys.stderr)\n")
    assert result.returncode == 0
    assert len(result.stderr) <= 2000


def test_program_that_does_not_exist_is_an_os_error() -> None:
    with pytest.raises(OSError):
        run_probe_child(["/nowhere/python"], QUICK)
