from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.isolation import (
    ChildResult,
    child_environment,
    has_exited,
    kill_group,
    name_of_signal,
    python_command,
    run_child,
    spawn_session,
    wait_for_exit,
)

LEAVES_A_GRANDCHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
{then}
"""
IGNORES_TERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "


def run_code(code: str, timeout_s: float = 20, **options: Any) -> ChildResult:
    return run_child([sys.executable, "-c", code], timeout_s, **options)


def num_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_gone(pid: int) -> bool:
    """A killed orphan may stay a zombie for as long as init pleases; it is gone all the same."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_result_has_both_streams_and_the_code() -> None:
    code = "import sys; print(sys.stdin.read()); print('bad', file=sys.stderr); sys.exit(3)"
    result = run_code(code, stdin=b"hello")
    assert (result.returncode, result.stdout, result.stderr) == (3, "hello\n", "bad\n")
    assert not result.ok
    assert not result.timed_out
    assert result.signal is None


def test_deadline_kills_a_child_that_ignores_sigterm_and_keeps_what_it_said() -> None:
    code = IGNORES_TERM + "print('so far', flush=True); time.sleep(60)"
    result = run_code(code, timeout_s=1.0, grace_s=0.2)
    assert result.timed_out
    assert result.signal == signal.SIGKILL
    assert result.stdout == "so far\n"
    assert result.duration_s < 5


def test_grace_lets_a_child_end_by_itself() -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7));"
        "time.sleep(60)"
    )
    result = run_code(code, timeout_s=1.0, grace_s=10)
    assert result.timed_out
    assert result.returncode == 7
    assert not result.ok


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_death_by_signal_is_named_and_leaves_a_traceback(number: signal.Signals) -> None:
    result = run_code(f"import os; os.kill(os.getpid(), {int(number)})")
    assert result.signal == number
    assert name_of_signal(result.signal) == number.name
    assert "Current thread" in result.stderr


@pytest.mark.parametrize("then", ["import time; time.sleep(60)", "raise SystemExit(0)"])
def test_grandchildren_do_not_survive(then: str) -> None:
    result = run_code(LEAVES_A_GRANDCHILD.format(then=then), timeout_s=2.0)
    assert is_gone(int(result.stdout.split()[0]))


def test_long_output_keeps_its_end() -> None:
    result = run_code("print('x' * 5_000_000 + 'end')", max_output_bytes=1000)
    assert len(result.stdout) == 1000
    assert result.stdout.endswith("end\n")


def test_secrets_stay_out_and_the_gpu_settings_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    environment = child_environment({"EXTRA": "1"})
    assert "API_KEYS" not in environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["EXTRA"] == "1"
    result = run_code("import os; print(sorted(os.environ))", env=environment)
    assert "API_KEYS" not in result.stdout


def test_child_imports_this_app_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit(9)")
    code = "import sys; sys.path.pop(0) if sys.version_info < (3, 11) else 0; import app.isolation"
    assert run_code(code, cwd=tmp_path).returncode == 0


def test_child_leads_its_own_session() -> None:
    result = run_code("import os; print(os.getsid(0) == os.getpid() == os.getpgid(0))")
    assert result.stdout == "True\n"


def test_missing_program_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        run_child(["/no/such/program"], 1.0)


def test_exit_is_seen_before_it_is_reaped_and_killing_twice_is_harmless() -> None:
    process = spawn_session([sys.executable, "-c", "pass"])
    assert wait_for_exit(process, 20)
    assert has_exited(process)
    assert process.returncode is None
    assert kill_group(process)
    assert process.returncode == 0
    assert kill_group(process)
    assert has_exited(process)


def test_a_child_that_asked_for_it_dies_with_its_parent() -> None:
    inner = "from app.isolation import die_with_parent; import time; assert die_with_parent();"
    inner += "print('armed', flush=True); time.sleep(60)"
    outer = (
        "import os, subprocess, sys;"
        f"child = subprocess.Popen([sys.executable, '-c', {inner!r}], stdout=subprocess.PIPE,"
        " start_new_session=True);"
        "child.stdout.readline(); print(child.pid, flush=True); os._exit(0)"
    )
    result = run_code(outer)
    assert is_gone(int(result.stdout))


def test_no_descriptor_is_left() -> None:
    run_code("pass")
    before = num_descriptors()
    for _ in range(5):
        run_code("pass")
    assert num_descriptors() == before


def test_names_of_signals_and_commands() -> None:
    assert name_of_signal(11) == "SIGSEGV"
    assert name_of_signal(9999) == "signal 9999"
    assert python_command("app.x", "--y") == [sys.executable, "-m", "app.x", "--y"]
