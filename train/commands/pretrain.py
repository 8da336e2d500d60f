"""`python -m train pretrain`: makes a whole XTTS from nothing, by a recipe."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

STAGE_NAMES = ("data", "codes", "gpt", "decoder_mel", "latents", "decoder", "bundle", "report")


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("pretrain", help="make a whole XTTS from nothing, by a recipe")
    parser.add_argument("recipe", type=Path, help="folder with a recipe.toml")
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="folder of the recipe's recordings"
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        help="folder for prepared data and checkpoints (~/.cache/audio-voice/pretrain/<name>)",
    )
    parser.add_argument("--stage", choices=STAGE_NAMES, action="append", help="run only these")
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="BUNDLE",
        help="a bundle of this recipe, where the checkpoints are lost: go on from its weights",
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: one for each core")
    parser.add_argument("--json", action="store_true", help="print the results as JSON, last line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the stages in order; each goes on where it was.

    Raises:
        AudioVoiceError: the recipe or its data don't fit, or a gate was not passed.
    """
    # coqui and torch take seconds; the help needs neither.
    from train.pretrain.pipeline import open_workspace, run_stages

    work = open_workspace(
        arguments.recipe,
        data_dir=arguments.data_dir,
        folder=arguments.work_dir,
        threads=arguments.threads or len(os.sched_getaffinity(0)),
        start_from=arguments.start_from,
    )
    run_stages(work, arguments.stage or STAGE_NAMES)
    if arguments.json:
        sys.stdout.write(json.dumps(work.results()) + "\n")
    return 0
