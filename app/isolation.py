"""Child processes for risky work: own session, scrubbed environment, deadline, typed result.

A GPU stack fails by hanging, by SIGSEGV and by abort(); only another process can survive that.
Every child leads its own session, so that it and all it started can be killed as one group, and
gets only the environment it needs, so that API keys stay out of it. Knows nothing of what the
children do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Variables a child may see: where things lie, how to talk, and what steers the GPU stack.
_KEPT_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LANG", "LANGUAGE", "TERM"),
        *("TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "GOMP_CPU_AFFINITY"),
        *("VIRTUAL_ENV", "GPU_DEVICE_ORDINAL"),
    }
)
_KEPT_PREFIXES = (
    *("LC_", "XDG_", "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "HSA_", "ROCR_", "ROCM_", "MIOPEN_"),
    *("TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "CUBLAS_", "CUDNN_", "TRITON_", "HF_"),
    *("OMP_", "MKL_", "KMP_", "OPENBLAS_", "MALLOC_"),
)
_ON_LINUX = sys.platform == "linux"
_CODE_ROOT = Path(__file__).resolve().parent.parent
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# How often a child that nobody can wait for without reaping it is looked at.
_POLL_S = 0.01
# A process stuck in a driver call outlives SIGKILL until the call returns; waiting has an end.
_REAP_TIMEOUT_S = 5.0
_MAX_OUTPUT_BYTES = 1 << 20


@dataclass(frozen=True)
class ChildResult:
    """How a child ended. `stdout` and `stderr` hold the end of each, if they were very long."""

    returncode: int | None  # None: it was killed and still is not gone (stuck in a driver)
    stdout: str
    stderr: str
    timed_out: bool
    signal: int | None  # the signal it died of; after a timeout this is ours
    duration_s: float

    @property
    def ok(self) -> bool:
        """True when the child came to its end by itself and said 0."""
        return self.returncode == 0 and not self.timed_out


def name_of_signal(number: int) -> str:
    """Returns `SIGSEGV` for 11, and `signal 99` for a number without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns the environment of a child: the allowed part of ours, plus `extra`.

    The child imports the same `app` as this process, whatever its working folder, writes its
    output unbuffered, and leaves a Python traceback when it dies of a signal.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)
    }
    own = {
        "PYTHONPATH": str(_CODE_ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONSAFEPATH": "1",
    }
    return {**kept, **own, **(extra or {})}


def python_command(module: str, *arguments: str) -> list[str]:
    """Returns the argv that runs `module` in a fresh interpreter of the kind that runs us."""
    return [sys.executable, "-m", module, *arguments]


def spawn_session(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = subprocess.DEVNULL,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a child as the leader of its own session and process group.

    Args:
        argv: the program and its arguments; no shell is involved.
        env: the whole environment; `child_environment()` if None.
        stdin: as for `subprocess.Popen`, like `stdout` and `stderr`; nothing if left out.
        stdout: see `stdin`.
        stderr: see `stdin`.
        cwd: the working folder; ours if None.

    Returns:
        The process; its pid is also the id of its group. End it with `kill_group`.

    Raises:
        OSError: the program cannot be started.
    """
    return subprocess.Popen(
        list(argv),
        env=dict(child_environment() if env is None else env),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        start_new_session=True,
        close_fds=True,
    )


def has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Says whether the child has ended, without reaping it where the system allows.

    As long as the leader is not reaped its process group id can't be given to anybody else, so
    the group can still be signalled safely.
    """
    if process.returncode is not None:
        return True
    if _ON_LINUX:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, process.pid, flags) is not None
        except ChildProcessError:  # somebody else reaped it
            return True
    return process.poll() is not None


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal to the child and all that it started; a group that is gone is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def kill_group(process: subprocess.Popen[bytes], grace_s: float = 0.0) -> bool:
    """Ends the child and all that it started, and reaps it. Blocks for `grace_s` at most, plus 5 s.

    SIGTERM comes first when there is a grace; SIGKILL always follows, for what the leader may have
    left behind. A child that was reaped before is left alone: its group id may be another's now.

    Returns:
        True when the child is gone; False when it is stuck in the kernel in spite of SIGKILL.
    """
    if process.returncode is not None:
        return True
    if grace_s > 0:
        signal_group(process, signal.SIGTERM)
        wait_for_exit(process, grace_s)
    signal_group(process, signal.SIGKILL)
    try:
        process.wait(_REAP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def wait_for_exit(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Waits until the child has ended, without reaping it; False when the time ran out."""
    deadline = time.monotonic() + timeout_s
    while not has_exited(process):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def run_child(
    argv: Sequence[str],
    timeout_s: float,
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
    grace_s: float = 0.0,
    max_output_bytes: int = _MAX_OUTPUT_BYTES,
) -> ChildResult:
    """Runs a child to its end or its deadline and returns how it went. Nothing of it survives.

    Output goes through unnamed files, not pipes, so a child that writes without end or leaves a
    grandchild holding its stdout can't block us.

    Args:
        argv: the program and its arguments.
        timeout_s: seconds until the whole group is killed.
        env: the whole environment; `child_environment()` if None.
        stdin: what the child reads.
        cwd: the working folder; ours if None.
        grace_s: seconds between SIGTERM and SIGKILL after the deadline; 0 kills at once.
        max_output_bytes: how much of the end of stdout and of stderr is kept.

    Raises:
        OSError: the program cannot be started.
    """
    started = time.monotonic()
    with (
        tempfile.TemporaryFile() as source,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        source.write(stdin)
        source.seek(0)
        process = spawn_session(argv, env, stdin=source, stdout=out, stderr=err, cwd=cwd)
        timed_out = True
        try:
            timed_out = not wait_for_exit(process, timeout_s)
        finally:
            kill_group(process, grace_s if timed_out else 0.0)
        code = process.returncode
        return ChildResult(
            returncode=code,
            stdout=_read_end(out, max_output_bytes),
            stderr=_read_end(err, max_output_bytes),
            timed_out=timed_out,
            signal=-code if code is not None and code < 0 else None,
            duration_s=time.monotonic() - started,
        )


def die_with_parent(number: int = signal.SIGKILL) -> bool:
    """Asks the kernel to send us a signal when our parent dies (Linux; False elsewhere).

    To be called by the child itself, early. The parent in the kernel's eyes is the thread that
    started us (prctl(2), PR_SET_PDEATHSIG), so start children from a thread that lives on. A
    parent that died before this call is noticed by comparing `os.getppid()`, not here.
    """
    if not _ON_LINUX:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) == 0)


def _read_end(stream: IO[bytes], max_bytes: int) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - max_bytes))
    return stream.read().decode("utf-8", errors="replace")
