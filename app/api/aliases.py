"""The aliases: which model each means, and giving one to another model once it has spoken."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from app.api.auth import KEY_NEEDED
from app.api.bodies import parse_json, read_body
from app.api.context import ContextDep
from app.api.openapi import errors_of, json_body
from app.api.presence import in_thread
from app.api.schemas import Alias, AliasList, HandedAlias, Promotion
from app.models.registry import AliasTarget
from app.supervisor.handover import Handed

router = APIRouter(tags=["models"], dependencies=KEY_NEEDED)

_MAX_BODY_BYTES = 64 << 10
_EXAMPLE: dict[str, Any] = {"model": "builtin"}


@router.get("/v1/aliases", summary="List aliases", responses=errors_of(401))
async def list_aliases(context: ContextDep) -> AliasList:
    """Returns every alias with the model it means and those it meant before."""
    targets = await in_thread(context.registry.aliases)
    return AliasList(data=[_alias(target) for target in targets])


@router.put(
    "/v1/aliases/{alias}",
    summary="Give an alias to a model",
    responses=errors_of(400, 401, 404, 409, 413, 503, 507),
    openapi_extra=json_body("Promotion", _EXAMPLE),
)
async def promote_model(alias: str, request: Request, context: ContextDep) -> HandedAlias:
    """Loads the model beside the old one, lets it say a sentence, checks that, and only then gives
    it the alias. Otherwise the alias stays, and the error says why.
    """
    body = await read_body(request, _MAX_BODY_BYTES, field="model")
    wanted = parse_json(body, Promotion)
    handed = await context.handover.promote(alias, wanted.model, wanted.voice or "")
    return _handed(handed)


@router.post(
    "/v1/aliases/{alias}/rollback",
    summary="Give an alias back",
    responses=errors_of(400, 401, 404, 409, 503, 507),
)
async def roll_back_alias(alias: str, context: ContextDep) -> HandedAlias:
    """Gives the alias back to the model that had it before, once that has spoken."""
    return _handed(await context.handover.roll_back(alias))


def _alias(target: AliasTarget) -> Alias:
    handed = target.handed
    return Alias(
        id=target.alias,
        model=target.model,
        previous=[name or "(settings)" for name in handed.previous] if handed else [],
        changed_at=handed.changed_at if handed else None,
    )


def _handed(handed: Handed) -> HandedAlias:
    return HandedAlias.model_validate(
        {"id": handed.alias, **asdict(handed)}, strict=False, from_attributes=False
    )
