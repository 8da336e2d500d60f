"""`python -m train estimate`: what training would cost on this machine, by a few real steps."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("estimate", help="measure what training would cost here")
    parser.add_argument("--base", dest="base_model", default="", help="model (BASE_MODEL)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measures and says what an hour of clips takes.

    Raises:
        AudioVoiceError: there is no such model, or it can't be trained.
    """
    # The help needs none of these; torch takes seconds.
    from app.models.bundles import find_bundle
    from app.settings import load_settings
    from app.synthesis.placing import choose_threads, place_model
    from train.epochs.eta import in_words
    from train.fit.estimate import estimate_cost
    from train.fit.setup import use_threads
    from train.options import load_options

    settings, options = load_settings(), load_options()
    name = arguments.base_model or options.base_model or settings.default_model
    use_threads(choose_threads(settings.threads)[0])
    placement = place_model(settings, logging.getLogger(__name__).info)
    cost = estimate_cost(find_bundle(name, settings), placement)
    words = (
        f"not on {cost.device}: {cost.fault}"
        if cost.fault
        else f"{in_words(cost.hour_s)} for an hour of clips and an epoch on {cost.device} "
        f"({cost.audio_s_per_s:.1f} s of audio a second)"
    )
    sys.stdout.write(f"Training {cost.model}: {words}.\n")
    if arguments.json:
        result = {**asdict(cost), "hour_s": round(cost.hour_s, 1), "words": words}
        sys.stdout.write(json.dumps(result) + "\n")
    return 0
