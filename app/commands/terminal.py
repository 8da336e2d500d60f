"""Lines for a person at a terminal. The only place that prints."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Prints a line of result to stdout at once."""
    print(text, flush=True)  # noqa: T201


def note(text: str) -> None:
    """Prints a line about what is going on to stderr, so that stdout holds results only."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
