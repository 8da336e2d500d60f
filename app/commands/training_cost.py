"""What training would cost on this machine, as the trainer itself finds out.

The trainer runs in a process of its own, by its command: this program never imports it.
"""

from __future__ import annotations

import json

from app.commands.narrator import wait_telling
from app.devices.background import run_in_daemon
from app.isolation import (
    ChildResult,
    child_environment,
    name_of_signal,
    python_command,
    run_child,
)
from app.settings import Settings

#: Longest that the trainer may take over a few steps, loading included.
_LONGEST_S = 300.0


async def estimate_training(settings: Settings) -> str:
    """Returns in words what an hour of clips takes, or why that is not known."""
    command = python_command("train", "estimate", "--base", settings.default_model, "--json")
    environment = child_environment(
        {
            "MODELS_DIR": str(settings.models_dir.absolute()),
            "CACHE_DIR": str(settings.cache_dir.absolute()),
            "DEVICE": settings.device,
            "FORCE_CPU": str(settings.force_cpu),
            "PRECISION": settings.precision,
            "THREADS": str(settings.threads),
        }
    )
    child = await wait_telling(
        run_in_daemon(lambda: run_child(command, _LONGEST_S, env=environment), "training cost"),
        "measuring what training would cost",
    )
    return read_answer(child)


def read_answer(child: ChildResult) -> str:
    """Returns the trainer's words, or what became of it."""
    if child.ok:
        return str(json.loads(child.stdout.splitlines()[-1])["words"])
    if child.timed_out:
        return f"not known: a few steps took more than {_LONGEST_S:.0f} s"
    if child.signal is not None:
        return f"not known: the trainer died of {name_of_signal(child.signal)}"
    said = child.stderr.strip().splitlines()
    return f"not known: {said[-1] if said else 'the trainer said nothing'}"
