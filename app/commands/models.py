"""`python -m app models`: which models there are, and fetching XTTS-v2."""

from __future__ import annotations

import argparse
import json
from typing import Any

from app.commands.terminal import say
from app.errors import NotFoundError
from app.models.bundles import XTTS_V2, Bundle, find_bundle, list_bundles
from app.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("action", nargs="?", choices=("list", "fetch"), default="list")
    parser.add_argument("name", nargs="?", default=XTTS_V2, help=f"what to fetch ({XTTS_V2})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last line")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Lists the models here, or fetches one into MODELS_DIR first."""
    if arguments.action == "fetch":
        _fetch(arguments.name, settings)
    bundles = list_bundles(settings)
    for bundle in bundles:
        languages = " ".join(bundle.languages)
        say(f"{bundle.name:20} {bundle.licence or 'licence not stated':45} {languages}")
    if arguments.json:
        say(json.dumps([_describe(bundle) for bundle in bundles]))
    return 0


def _fetch(name: str, settings: Settings) -> None:
    if name != XTTS_V2:
        raise NotFoundError(f"Only {XTTS_V2} can be fetched, not {name!r}.", param="name")
    # huggingface-hub takes a second to import; a mere list needs none of it.
    from app.models.download import fetch_model

    fetch_model(name, settings)
    say(f"{name} is in {find_bundle(name, settings).folder}")


def _describe(bundle: Bundle) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "kind": bundle.kind,
        "folder": str(bundle.folder),
        "version": bundle.version,
        "licence": bundle.licence,
        "languages": list(bundle.languages),
    }
