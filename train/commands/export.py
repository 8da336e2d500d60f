"""`python -m train export`: makes a bundle of a run's checkpoint, for the service to speak with."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("export", help="make a bundle of a run's checkpoint")
    parser.add_argument(
        "--checkpoint", default="best", help="best, an epoch's number, or a checkpoint's path"
    )
    parser.add_argument(
        "--to",
        type=Path,
        help="folder of the bundle; a free name under MODELS_DIR if left out",
    )
    parser.add_argument(
        "--output", dest="train_output_dir", type=Path, help="folder of the run (TRAIN_OUTPUT_DIR)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exports and says how to speak with the bundle.

    Raises:
        AudioVoiceError: there is no such run or checkpoint, or the folder is taken.
    """
    # The help needs none of these; torch takes seconds.
    from app.models.manifest import read_manifest
    from app.settings import load_settings
    from train.handover.of_run import export_run
    from train.options import load_options

    settings, options = load_settings(), load_options()
    folder = export_run(
        arguments.train_output_dir or options.train_output_dir,
        settings.models_dir,
        checkpoint=arguments.checkpoint,
        to=arguments.to,
    )
    manifest = read_manifest(folder)
    sys.stdout.write(
        f"{folder}: {manifest.name} {manifest.version}, voice {manifest.default_voice}, licence "
        f"{manifest.licence}.\nSpeak with it: DEFAULT_MODEL={folder} python -m app speak "
        '"How does it sound?"\n'
    )
    if arguments.json:
        result = {
            "folder": str(folder),
            "name": manifest.name,
            "version": manifest.version,
            "voices": list(manifest.voices),
            "licence": manifest.licence,
        }
        sys.stdout.write(json.dumps(result) + "\n")
    return 0
