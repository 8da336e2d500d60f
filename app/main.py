"""The command line: `python -m app serve|speak|check|probe|models`.

Parses arguments, reads the settings and hands over to one command. Errors of ours become one
sentence on stderr and an exit code: 2 for what the user can mend, 1 for the rest.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import app
from app.commands.terminal import note
from app.errors import AudioVoiceError, InputError, ModelFileError, RefusedError, SettingsError
from app.settings import load_settings

EXIT_FAILED = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130

#: Each is a module in `app.commands` that is imported only when it is the one to run: what serving
#: needs takes longer to import than a list of models takes to print.
_COMMANDS = {
    "serve": "answer clients over HTTP",
    "speak": "speak a text into a file",
    "check": "try this machine: device, model, three sentences, times and memory",
    "probe": "find out what works on the GPU, by doing it",
    "models": "list models, fetch XTTS-v2, promote a model to an alias and roll back",
}
_USER_ERRORS = (InputError, SettingsError, ModelFileError, RefusedError)


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """Returns the parser with a sub-parser for each command; only the chosen one has options."""
    parser = argparse.ArgumentParser(
        prog="python -m app", description="audio-voice: speech from text, in a voice you choose."
    )
    parser.add_argument("--version", action="version", version=f"audio-voice {app.__version__}")
    parser.add_argument("--env-file", type=Path, help="settings file instead of .env")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, description in _COMMANDS.items():
        command = subparsers.add_parser(name, help=description, description=description)
        if name == chosen:
            module = importlib.import_module(f"app.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the process's exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = build_parser(_find_command(words)).parse_args(words)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        if arguments.env_file and not arguments.env_file.is_file():
            raise SettingsError(f"--env-file: there is no file {arguments.env_file}.")
        settings = load_settings(arguments.env_file)
        code: int = arguments.run(arguments, settings)
        return code
    except _USER_ERRORS as error:
        note(f"error: {error.message}")
        return EXIT_USER
    except AudioVoiceError as error:
        note(f"error: {error.message}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _find_command(words: list[str]) -> str | None:
    """Returns the first word that is no option of the program itself, if it names a command."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--env-file")
    _, rest = parser.parse_known_args(words)
    word = next((word for word in rest if not word.startswith("-")), None)
    return word if word in _COMMANDS else None
