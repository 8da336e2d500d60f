"""`python -m train fit`: from a folder of clips to a voice; started again, it goes on.

Exit codes: 0 the run is finished, or stopped on request with everything saved; 2 settings or data
don't fit; 1 other errors.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from typing import Any

from train.commands.starting import add_output_argument, open_base, read_settings
from train.commands.validate import add_data_arguments


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("fit", help="fine-tune a model on clips, or go on with it")
    add_data_arguments(parser)
    parser.add_argument("--epochs", dest="num_epochs", type=int, help="(NUM_EPOCHS)")
    add_output_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Checks, prepares and trains.

    Raises:
        AudioVoiceError: the data or the settings don't fit, or the run ended by an error.
    """
    # The help needs none of these; torch takes seconds.
    from rich.console import Console
    from rich.markup import escape

    from train.epochs.setup import watch_epochs
    from train.events import Observer
    from train.fit.data import gather_clips
    from train.fit.run import FitRun
    from train.fit.setup import make_accelerator, set_up
    from train.handover.of_run import export_finished

    settings, options = read_settings(arguments, ("num_epochs", "train_output_dir"))
    bundle, placement = open_base(settings, options)
    accelerator, precision = make_accelerator(placement, settings.precision)
    if not accelerator.is_main_process:
        logging.disable(logging.WARNING)
    console = Console(stderr=True, quiet=not accelerator.is_main_process)
    gathered = gather_clips(settings, options, accelerator, console)
    setup = set_up(
        options,
        bundle,
        gathered.clips,
        gathered.num_left_out,
        placement,
        accelerator,
        precision,
    )
    observers: list[Observer] = []
    if accelerator.is_main_process:
        observers.append(watch_epochs(gathered.clips, settings, options, console=console))
    result = FitRun(setup, observers).run()
    if accelerator.is_main_process:
        console.print(f"Training {result.reason}.", highlight=False)
        if result.finished and options.export_at_end:
            told = export_finished(
                options.train_output_dir, settings.models_dir, options.export_name
            )
            console.print(escape(told), highlight=False, soft_wrap=True)
        if arguments.json:
            sys.stdout.write(json.dumps(result.as_json()) + "\n")
    accelerator.end_training()
    return 0
