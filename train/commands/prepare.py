"""`python -m train prepare`: computes once what training reads of every clip.

Exit codes as of `validate`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from train.commands.validate import EXIT_NOT_USABLE, EXIT_USABLE, add_data_arguments, data_overrides


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("prepare", help="compute codes and mels of all clips, once")
    add_data_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Checks the data and fills the cache; what is in it already is not computed again.

    Raises:
        AudioVoiceError: there is no data set, no model, no DVAE beside it, or no room.
    """
    # The help needs none of these; torch and coqui take seconds.
    from rich.console import Console

    from app.settings import load_settings
    from train.data.pipeline import check_data, prepare_data
    from train.data.summary import as_json
    from train.data.terminal import progress_bar, show_validation
    from train.options import load_options

    settings, options = load_settings(), load_options(**data_overrides(arguments))
    console = Console(stderr=True)
    started = time.monotonic()
    with progress_bar(console, "Reading clips") as progress:
        checked = check_data(settings, options, progress, needs_dvae=True)
    show_validation(console, checked.validation, checked.split)
    if checked.split is None:
        if arguments.json:
            sys.stdout.write(json.dumps(as_json(checked.validation, None)) + "\n")
        return EXIT_NOT_USABLE
    with progress_bar(console, "Computing codes and mels") as progress:
        made = prepare_data(settings, options, checked, progress)
    result = {
        "prepared": str(made.clips.path),
        "num_train": len(made.clips.side("train")),
        "num_eval": len(made.clips.side("eval")),
        "num_left_out": len(checked.split.left_out),
        "num_computed": made.num_computed,
        "num_reused": made.num_reused,
        "lost": list(made.lost),
        "seconds": round(time.monotonic() - started, 2),
    }
    console.print(
        f"{made.num_computed} clips computed, {made.num_reused} found in the cache: "
        f"{made.clips.path}",
        highlight=False,
    )
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")
    return EXIT_USABLE
