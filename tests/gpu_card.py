"""The memory of a real card, asked for in children, so that no context of ours stays on it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from app.isolation import run_child

#: What the driver may keep of a process that is gone, until it has tidied up.
SLACK_BYTES = 64 << 20

_FREE = "import torch; result = torch.cuda.mem_get_info(0)[0]"


def on_gpu(code: str, timeout_s: float = 120) -> Any:
    """Runs the code in a child and returns what it left in `result`."""
    told = run_child(
        [sys.executable, "-c", f"{code}\nimport json; print(json.dumps(result))"], timeout_s
    )
    assert told.ok, told.stderr
    return json.loads(told.stdout.splitlines()[-1])


def free_memory() -> int:
    """Returns the card's free memory in bytes, with nothing of ours on it."""
    return int(on_gpu(_FREE))


def assert_given_back(before_bytes: int, timeout_s: float = 15) -> None:
    """Waits until as much memory is free as there was."""
    end = time.monotonic() + timeout_s
    while (free := free_memory()) < before_bytes - SLACK_BYTES and time.monotonic() < end:
        time.sleep(0.5)
    assert free >= before_bytes - SLACK_BYTES
