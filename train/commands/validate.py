"""`python -m train validate`: whether a folder of clips can be trained on, and what to mend.

Exit codes: 0 it can be trained on, 2 it can't; 1 is left to other errors.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

EXIT_USABLE = 0
EXIT_NOT_USABLE = 2
_REPORT = Path("train/output/data_report.html")


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("validate", help="check clips and texts before any training")
    add_data_arguments(parser)
    parser.add_argument("--report", type=Path, default=_REPORT, help=f"page to write ({_REPORT})")
    parser.set_defaults(run=run)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what is read and for which model."""
    parser.add_argument("data", type=Path, nargs="?", help="folder or table of clips (DATA)")
    parser.add_argument("--base", dest="base_model", help="model to train (BASE_MODEL)")
    parser.add_argument("--language", dest="train_language", help="of the clips (TRAIN_LANGUAGE)")
    parser.add_argument("--workers", dest="data_workers", type=int, help="processes (DATA_WORKERS)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last line")


def data_overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the options that the command line gave."""
    names = ("data", "base_model", "train_language", "data_workers")
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def run(arguments: argparse.Namespace) -> int:
    """Checks the data, writes the report and says what can be used.

    Raises:
        AudioVoiceError: there is no data set of a known kind, or no such model.
    """
    # The help needs none of these.
    from rich.console import Console

    from app.settings import load_settings
    from train.data.pipeline import check_data
    from train.data.report import write_report
    from train.data.summary import as_json
    from train.data.terminal import progress_bar, show_validation
    from train.options import load_options

    settings, options = load_settings(), load_options(**data_overrides(arguments))
    console = Console(stderr=True)
    with progress_bar(console, "Reading clips") as progress:
        checked = check_data(settings, options, progress)
    validation, split = checked.validation, checked.split
    show_validation(console, validation, split)
    write_report(arguments.report, validation, split)
    console.print(f"Report: {arguments.report}", highlight=False)
    if arguments.json:
        sys.stdout.write(json.dumps(as_json(validation, split)) + "\n")
    return EXIT_NOT_USABLE if validation.problem else EXIT_USABLE
