"""How the commands that train start: options, folder of the run, base, threads and device."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from train.commands.validate import data_overrides

if TYPE_CHECKING:  # torch takes seconds, and the help needs none of it
    from app.models.bundles import Bundle
    from app.settings import Settings
    from app.synthesis.placing import Placement
    from train.options import TrainingOptions

_log = logging.getLogger(__name__)


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the folder of the run."""
    parser.add_argument(
        "--output", dest="train_output_dir", type=Path, help="folder of the run (TRAIN_OUTPUT_DIR)"
    )


def read_settings(
    arguments: argparse.Namespace, names: Sequence[str]
) -> tuple[Settings, TrainingOptions]:
    """Returns the settings; the command line goes before them in `names` and what is read.

    Raises:
        SettingsError: one does not fit.
    """
    from app.settings import load_settings
    from train.options import load_options

    given = {name: v for name in names if (v := getattr(arguments, name)) is not None}
    return load_settings(), load_options(**data_overrides(arguments), **given)


def open_base(settings: Settings, options: TrainingOptions) -> tuple[Bundle, Placement]:
    """Returns the model to start from and where it is trained, with torch's threads set.

    Raises:
        AudioVoiceError: there is no such model, or the folder of the run can't be written.
    """
    from app.models.bundles import find_bundle
    from app.synthesis.placing import choose_threads, place_model
    from train.data.base_model import describe_base
    from train.fit.setup import check_output_or_raise, use_threads

    bundle = find_bundle(options.base_model or settings.default_model, settings)
    describe_base(bundle)
    check_output_or_raise(options.train_output_dir)
    threads, reason = choose_threads(settings.threads)
    use_threads(threads)
    _log.info("threads: %d (%s)", threads, reason)
    return bundle, place_model(settings, _log.info)
