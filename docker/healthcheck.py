"""Says in one line how the container is: exit code 0 when it is well, 1 when it is not.

`api` asks the service's /ready, so a model that is still being loaded counts as not well yet;
`tensorboard` asks TensorBoard; `trainer` looks at when the run last wrote something. All see a GPU
that was there at the start and has been taken away since. Needs only the standard library, because
it is started again and again.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TIMEOUT_S = 8
#: What a run writes into, from the working folder; `prepare` fills the cache.
_TRAINER_FOLDERS = ("train/output", "train/runs", "train/cache")
#: A run that has written nothing for so long is stuck: between two writes of the largest model on
#: the slowest machine lie minutes. A run gets as long to begin (`start_period`).
_SILENT_S = 1800


def main(role: str) -> int:
    """Prints the line and returns the exit code."""
    lost = find_lost_gpu()
    if lost:
        well, line = False, f"This container has lost its GPU ({lost}): restart the container."
    elif role == "api":
        well, line = ask_service()
    elif role == "tensorboard":
        well, line = ask_tensorboard()
    else:
        well, line = look_at_run()
    sys.stdout.write(f"{line}\n")
    return 0 if well else 1


def find_lost_gpu(folder: Path = Path("/dev")) -> Path | None:
    """Returns a GPU's node that is here and that the kernel denies, or None.

    `systemctl daemon-reload` on the host may reset which devices a running container may use; then
    opening a node that was given to it is answered with EPERM, whatever the node's mode.
    """
    nodes = (path for path in sorted(folder.glob("nvidia*")) if not path.is_dir())
    return next((node for node in nodes if _is_denied(node)), None)


def _is_denied(node: Path) -> bool:
    try:
        os.close(os.open(node, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def ask_service() -> tuple[bool, str]:
    """Returns whether the service can speak, and what it says of itself."""
    url = f"http://127.0.0.1:{os.environ.get('API_PORT') or 8005}/ready"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            ready = json.load(answer)
    except urllib.error.HTTPError as error:
        return False, f"not ready: {_message_of(error)}"
    except OSError as error:
        return False, f"no answer on {url}: {error}"
    benched = [f"{bench['device']} is not used: {bench['reason']}" for bench in ready["benched"]]
    return True, "; ".join((f"ready: {ready['model']} on {ready['device']}", *benched))


def ask_tensorboard() -> tuple[bool, str]:
    """Returns whether TensorBoard answers."""
    url = "http://127.0.0.1:6006/"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S):
            return True, f"answers on {url}"
    except OSError as error:
        return False, f"no answer on {url}: {error}"


def _message_of(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"


def look_at_run() -> tuple[bool, str]:
    """Returns whether the run has written something lately."""
    silent_s = time.time() - max(_times_of_files(), default=0.0)
    return silent_s < _SILENT_S, f"the run last wrote {silent_s:.0f} s ago"


def _times_of_files() -> Iterator[float]:
    """Yields when each file of the run was written; temporary files may go while we look."""
    for folder in _TRAINER_FOLDERS:
        for path in Path(folder).rglob("*"):
            with suppress(FileNotFoundError):
                yield path.stat().st_mtime


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
