"""`python -m train decoder`: fine-tunes the decoder of a model on a folder of clips.

Exit codes: 0 the run is finished, or stopped on request with everything saved; 2 settings or data
don't fit; 1 other errors.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from train.commands.starting import add_output_argument, open_base, read_settings
from train.commands.validate import add_data_arguments

_OVERRIDES = ("decoder_steps", "decoder_adversary_steps", "train_output_dir")


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("decoder", help="fine-tune the decoder that makes the sound")
    add_data_arguments(parser)
    parser.add_argument("--steps", dest="decoder_steps", type=int, help="(DECODER_STEPS)")
    parser.add_argument(
        "--adversary-steps",
        dest="decoder_adversary_steps",
        type=int,
        help="the last so many with an adversary (DECODER_ADVERSARY_STEPS)",
    )
    add_output_argument(parser)
    parser.add_argument(
        "--to", type=Path, help="folder of the model; a free name under MODELS_DIR if left out"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Checks, prepares, trains, and hands over what got better.

    Raises:
        AudioVoiceError: the data or the settings don't fit, or the run ended by an error.
    """
    # The help needs none of these; torch takes seconds.
    from rich.console import Console
    from rich.markup import escape

    from train.decoder.preparing import BaseParts
    from train.decoder.run import DecoderRun, check_options_or_raise
    from train.epochs.board import Board
    from train.fit.data import gather_clips
    from train.fit.setup import make_accelerator
    from train.handover.new_folder import check_free_or_raise
    from train.handover.of_decoder import hand_over

    log = logging.getLogger(__name__)
    settings, options = read_settings(arguments, _OVERRIDES)
    check_options_or_raise(options)
    if arguments.to is not None:
        check_free_or_raise(arguments.to)
    bundle, placement = open_base(settings, options)
    accelerator, precision = make_accelerator(placement, settings.precision, options.train_runs_dir)
    accelerator.init_trackers("decoder")
    log.info("number format: %s (%s)", precision.value, precision.reason)
    main = accelerator.is_main_process
    console = Console(stderr=True, quiet=not main)
    board = Board(options.train_runs_dir, options.tensorboard_port)
    try:
        if main and options.tensorboard:
            console.print(board.start(), highlight=False)
        gathered = gather_clips(settings, options, accelerator, console)
        tuned = DecoderRun(options, BaseParts.read(bundle), gathered.clips, accelerator)
        result = tuned.run()
    finally:
        board.stop()
        accelerator.end_training()
    if not main:
        return 0
    folder: Path | None = None
    told = "Training finished; EXPORT_AT_END is false, so call it again with --to for the model."
    if not result.finished:
        told = f"Training {result.reason} at step {result.step}; start it again to go on."
    elif options.export_at_end or arguments.to:
        folder, told = hand_over(
            result,
            bundle,
            gathered.clips,
            data=options.data.absolute().name,
            folder=tuned.folder,
            models_dir=settings.models_dir,
            to=arguments.to,
        )
    console.print(escape(told), highlight=False, soft_wrap=True)
    if arguments.json:
        sys.stdout.write(
            json.dumps(
                {**result.as_json(), "folder": str(folder) if folder else None, "told": told}
            )
            + "\n"
        )
    return 0
