"""`python -m app models`: which models there are, fetching XTTS-v2, and what an alias means.

Where the service runs it does the work, so that its requests feel nothing of it; where it does not,
a model is loaded here for as long as it takes to hear it speak.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from app.commands.service import RunningService
from app.commands.terminal import note, say
from app.errors import InputError, NotFoundError
from app.models.bundles import XTTS_V2, find_bundle
from app.models.registry import DEFAULT, ModelRegistry
from app.settings import Settings

_ACTIONS = ("list", "fetch", "promote", "rollback")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=_ACTIONS,
        default="list",
        help="promote gives an alias to a model once it has spoken; rollback gives it back",
    )
    parser.add_argument("name", nargs="?", default="", help="the model to fetch or to promote")
    parser.add_argument("--alias", default=DEFAULT, help=f"what to hand over ({DEFAULT})")
    parser.add_argument("--voice", default="", help="who speaks before a promotion")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, last line")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Does one of the actions.

    Raises:
        AudioVoiceError: there is no such model, or it can't have the alias; then that stays.
    """
    if arguments.action in ("promote", "rollback"):
        handed = _hand_over(arguments, settings)
        _tell_handed(handed)
        _say_json(handed, arguments)
        return 0
    if arguments.action == "fetch":
        _fetch(arguments.name or XTTS_V2, settings)
    _say_json(_list(settings), arguments)
    return 0


def _say_json(result: object, arguments: argparse.Namespace) -> None:
    if arguments.json:
        say(json.dumps(result))


def _list(settings: Settings) -> list[dict[str, Any]]:
    """Prints the models with their aliases, and with their state where the service runs."""
    registry = ModelRegistry(settings)
    states = _states(RunningService(settings))
    names: dict[str, list[str]] = {}
    for target in registry.aliases():
        names.setdefault(target.model, []).append(target.alias)
    models = []
    for name, bundle in registry.bundles().items():
        state = states.get(name, "unloaded") if states is not None else None
        aliases = names.get(name, [])
        say(
            f"{name:20} {state or '-':10} {bundle.licence or 'licence not stated':35} "
            f"{' '.join(bundle.languages):20} {' '.join(aliases)}".rstrip()
        )
        models.append(
            {
                "name": name,
                "kind": bundle.kind,
                "folder": str(bundle.folder),
                "version": bundle.version,
                "licence": bundle.licence,
                "languages": list(bundle.languages),
                "aliases": aliases,
                "state": state,
            }
        )
    return models


def _states(service: RunningService) -> dict[str, str] | None:
    """Returns how each loaded model is; None where no service runs, or none that tells us."""
    if not service.is_there():
        return None
    try:
        listed = service.ask("GET", "/v1/models")
    except InputError:
        return None
    return {str(model["id"]): str(model["state"]) for model in listed["data"]}


def _fetch(name: str, settings: Settings) -> None:
    if name != XTTS_V2:
        raise NotFoundError(f"Only {XTTS_V2} can be fetched, not {name!r}.", param="name")
    # huggingface-hub takes a second to import; a mere list needs none of it.
    from app.models.download import fetch_model

    fetch_model(name, settings)
    say(f"{name} is in {find_bundle(name, settings).folder}")


def _hand_over(arguments: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    if arguments.action == "promote" and not arguments.name:
        raise InputError(
            "Name the model to promote: python -m app models promote NAME.", param="name"
        )
    service = RunningService(settings)
    if not service.is_there():
        note(f"... no service at {service.address}: the model is tried out here")
        return asyncio.run(_hand_over_here(arguments, settings))
    path = f"/v1/aliases/{quote(arguments.alias, safe='')}"
    if arguments.action == "rollback":
        return service.ask("POST", f"{path}/rollback")
    body = {"model": arguments.name, "voice": arguments.voice or None}
    return service.ask("PUT", path, body)


async def _hand_over_here(arguments: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    # What a worker needs takes a moment to import; a mere list needs none of it.
    from app.supervisor.handover import Handover
    from app.supervisor.pool import EnginePool

    if settings.log_level != "debug":
        # What goes wrong is told once, in one sentence, by the command itself.
        logging.getLogger("app").setLevel(logging.CRITICAL)
    registry = ModelRegistry(settings)
    pool = EnginePool(settings, registry)
    handover = Handover(pool, registry, settings.worker_start_timeout_s)
    try:
        if arguments.action == "rollback":
            handed = await handover.roll_back(arguments.alias)
        else:
            handed = await handover.promote(arguments.alias, arguments.name, arguments.voice)
    finally:
        await pool.stop(0)
    told = asdict(handed)
    return {"id": told.pop("alias"), **told}


def _tell_handed(told: dict[str, Any]) -> None:
    before = f" (before: {told['before']})" if told["before"] else ""
    if told["model"] is None:
        say(f"{told['id']} is no alias any more{before}")
        return
    say(f"{told['id']} means {told['model']} from now on{before}")
    if canary := told["canary"]:
        say(
            f"{told['model']} said {canary['text']!r} with {canary['voice']}: "
            f"{canary['audio_s']:.1f} s of speech in {canary['took_s']:.1f} s, all checks passed"
        )
