"""The docker command, and compose stacks of a checkout, as the tests use them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Everything here may run beside other work on two cores.
STEP_TIMEOUT_S = 240.0
IMAGE = "audio-voice"
#: As a careful operator runs it: nothing is given that it does not need.
HARDENED = ("--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL")
HARDENED += ("--security-opt", "no-new-privileges:true")


def docker(
    *arguments: str, check: bool = True, timeout_s: float = STEP_TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Runs docker; stdout and stderr are kept apart, and shown when it fails and must not."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert not check or done.returncode == 0, f"docker {arguments}:\n{done.stdout}{done.stderr}"
    return done


def inspect(name: str, what: str = "") -> Any:
    """Returns what the engine knows of an object; `what` is a path such as `.State.Health`."""
    return json.loads(docker("inspect", name, "--format", f"{{{{json {what or '.'}}}}}").stdout)


def wait_for(seen: Callable[[], Any], what: str, timeout_s: float = STEP_TIMEOUT_S) -> Any:
    """Waits until `seen` returns something true, and returns that."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        found = seen()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {timeout_s:.0f} s: {what}")


def wait_until_healthy(container: str) -> None:
    """Waits for a container's health check, and shows its log where it ended instead."""

    def is_healthy() -> bool:
        ended = inspect(container, ".State.Status") == "exited"
        assert not ended, f"{container} ended:\n{logs_of(container)}"
        return health_of(container)[0] == "healthy"

    wait_for(is_healthy, f"{container} is healthy")


def health_of(container: str) -> tuple[str, str]:
    """Returns a container's health and what the last check said."""
    health = inspect(container, ".State.Health")
    log = health["Log"] or [{"Output": ""}]
    return health["Status"], log[-1]["Output"].strip()


def logs_of(container: str) -> str:
    """Returns all that a container has written."""
    done = docker("logs", container)
    return done.stdout + done.stderr


def free_port() -> str:
    """Returns a port of this machine that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@dataclass
class Stack:
    """One or more compose files of a checkout, with what the user has set."""

    checkout: Path
    files: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)

    def compose(
        self, *arguments: str, check: bool = True, timeout_s: float = STEP_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs `docker compose` in the checkout."""
        options = [word for file in self.files for word in ("-f", file)]
        done = subprocess.run(
            ["docker", "compose", "--progress", "plain", *options, *arguments],
            cwd=self.checkout,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, (
            f"docker compose {options + list(arguments)}:\n{done.stdout}{done.stderr}"
        )
        return done
