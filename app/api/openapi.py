"""What the OpenAPI document says beyond what FastAPI finds by itself.

Bodies are read by our own code, under limits and after the key is checked, so their schemas are
added here; and input errors are 400 in OpenAI's shape, so FastAPI's 422 goes.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from app.api.schemas import ErrorBody, Promotion, SpeechRequest

_REASONS = {
    400: "What was sent is wrong; `param` names the field.",
    401: "No API key, or an unknown one.",
    403: "A policy says no.",
    404: "What is named does not exist.",
    409: "The name is taken, or the model can't take the alias.",
    413: "Text, upload or clip is over its limit.",
    415: "The upload is no audio that can be read.",
    429: "Too many requests at once; come back after `Retry-After` seconds.",
    500: "The service failed; with `x-should-retry: false` it would fail again.",
    507: "The model needs more memory than its budget allows.",
    503: "Not now: loading, or the worker was lost; come back after `Retry-After` seconds.",
}
_BODIES: tuple[type[BaseModel], ...] = (SpeechRequest, Promotion, ErrorBody)
_REF = "#/components/schemas/{model}"


def errors_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a route that may answer with these errors."""
    return {status: {"model": ErrorBody, "description": _REASONS[status]} for status in statuses}


def json_body(schema: str, example: dict[str, Any]) -> dict[str, Any]:
    """Returns the `openapi_extra` of a route that reads a JSON body of this schema."""
    reference = {"$ref": _REF.format(model=schema)}
    content = {"application/json": {"schema": reference, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def install_openapi(app: FastAPI) -> None:
    """Makes the app serve a document that is complete and true."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for body in _BODIES:
        schema = body.model_json_schema(ref_template=_REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[body.__name__] = schema
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return document
