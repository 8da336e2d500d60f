"""Turns errors into answers: one JSON shape for all of them, framework and unexpected ones too.

The shape is OpenAI's: `{"error": {"message", "type", "param", "code"}}`. Its SDKs retry 408, 409,
429 and every 5xx by themselves unless `x-should-retry: false` stops them, so each error whose
cause would not go away says so. Knows nothing of what the routes do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.api.schemas import ErrorBody, ErrorDetail
from app.errors import AudioVoiceError, AuthError, InputError, NotFoundError, RequestCancelledError
from app.supervisor.refusals import MODEL_FAILED

#: What the client named is cut to this in a message: a field of a form, a path.
_MAX_FIELD_CHARS = 64
_MAX_PATH_CHARS = 200
#: Codes of errors that would come again, though others of their kind pass.
_FINAL_CODES = frozenset({MODEL_FAILED, "request_timeout"})


def error_body(error: AudioVoiceError) -> ErrorBody:
    """Returns the error as it goes over the wire."""
    return ErrorBody(
        error=ErrorDetail(
            # what a client sent may be quoted in it, and need not be encodable
            message=error.message.encode("utf-8", "replace").decode(),
            type=error.error_type,
            param=error.param,
            code=error.code,
        )
    )


def error_headers(error: AudioVoiceError) -> dict[str, str]:
    """Returns the headers that tell a client whether and when to try again."""
    should_retry = error.should_retry and error.code not in _FINAL_CODES
    headers = {} if should_retry else {"x-should-retry": "false"}
    if should_retry:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or 1)))
    if isinstance(error, AuthError):
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def error_response(error: AudioVoiceError, headers: Mapping[str, str] | None = None) -> Response:
    """Returns the whole answer for an error."""
    return JSONResponse(
        error_body(error).model_dump(),
        status_code=error.status,
        headers={**error_headers(error), **(headers or {})},
    )


def unexpected_response() -> Response:
    """Returns the answer for an error nobody foresaw; what it was is in the log, not here."""
    return error_response(
        AudioVoiceError(
            "The service met an unexpected error; its log has the details under this "
            "answer's X-Request-Id."
        )
    )


def input_error_of(faults: ValidationError | RequestValidationError) -> InputError:
    """Turns pydantic's first fault into one sentence that names the field."""
    fault = faults.errors()[0]
    path = [str(part) for part in fault["loc"] if part not in ("body", "query", "path")]
    field = (path[0] if path else "body")[:_MAX_FIELD_CHARS]
    return InputError(f"The field '{field}' {_complaint(fault)}.", param=field)


def _complaint(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "missing":
        return "is required"
    if fault["type"] == "finite_number":
        return "must be a finite number, not NaN or infinity"
    message = str(fault["msg"]).removeprefix("Input should be ")
    return message if message.startswith("must ") else f"must be {message}"


def install_error_handlers(app: FastAPI) -> None:
    """Registers the handlers of our error tree and of the framework's own errors."""
    app.add_exception_handler(AudioVoiceError, _on_known)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


class _NoAnswer(Response):
    """Sends nothing: the client has left, and 499 is no status of HTTP."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Does nothing."""


async def _on_known(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AudioVoiceError)
    return _NoAnswer() if isinstance(error, RequestCancelledError) else error_response(error)


async def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return error_response(input_error_of(error))


async def _on_http(request: Request, error: Exception) -> Response:
    """Maps the framework's 404, 405 and 400; their headers (`Allow`) stay."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:_MAX_PATH_CHARS]
    route = f"{request.method} {path}"
    if error.status_code == 404:
        known = NotFoundError(f"There is no {route}; see /docs for all routes.", code="unknown_url")
        return error_response(known, error.headers)
    message = f"{route} is not possible: {error.detail}."
    if error.status_code == 405:
        message = f"{path} does not take {request.method}; see /docs for all routes."
    code = "method_not_allowed" if error.status_code == 405 else InputError.default_code
    body = error_body(InputError(message, code=code)).model_dump()
    headers = {"x-should-retry": "false", **(error.headers or {})}
    return JSONResponse(body, status_code=error.status_code, headers=headers)
