"""Reads the trainer's command line, runs a command, and tells errors in one sentence.

Each command lives in its own module with `add_parser`; modules that need torch or coqui are
imported when their command runs.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from app.errors import (
    AudioVoiceError,
    InputError,
    ModelFileError,
    RefusedError,
    SettingsError,
)
from train.commands import decoder, estimate, evaluate, export, fit, prepare, pretrain, validate

_USAGE_CODE = 2
_USER_ERRORS = (InputError, SettingsError, ModelFileError, RefusedError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (2: what the user can mend, 1: other errors)."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__.split("\n")[0])
    subparsers = parser.add_subparsers(dest="command", required=True)
    for command in (validate, prepare, estimate, fit, export, decoder, pretrain, evaluate):
        command.add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        return int(parsed.run(parsed))
    except AudioVoiceError as error:
        sys.stderr.write(f"{error.message}\n")
        return _USAGE_CODE if isinstance(error, _USER_ERRORS) else 1
