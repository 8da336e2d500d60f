"""Reads request bodies without ever holding more than is allowed.

A body whose length is announced is refused before it is read; one that is not is counted while
it comes. Knows nothing of what the bodies mean.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from app.api.errors import input_error_of
from app.errors import InputError, RequestCancelledError, TooLargeError

# A refused body is drained up to these bounds, unkept: many clients read the answer only after
# they have sent everything, and a connection closed under them hides it.
_DRAIN_BYTES = 8 << 20
_DRAIN_S = 2.0
# A body that stands still, or comes in drops, gives its place in the queue of uploads to another;
# 20 MB in 300 s is 0.5 Mbit/s.
_STALL_S = 30.0
_WHOLE_BODY_S = 300.0
_MAX_FORM_FILES = 4
_MAX_FORM_FIELDS = 32
_MAX_FORM_FIELD_BYTES = 64 << 10

_BodyT = TypeVar("_BodyT", bound=BaseModel)


async def read_body(request: Request, max_bytes: int, *, field: str, key: str = "") -> bytes:
    """Reads the body up to a limit.

    Args:
        request: the request; its body must not have been read.
        max_bytes: largest body taken.
        field: the request field that makes the body large, for the error.
        key: the setting that holds the limit, for the error; empty where none does.

    Raises:
        TooLargeError: the body is larger.
        InputError: the body stood still, or was not complete, for too long.
        RequestCancelledError: the client left while it sent.
    """
    remedy = f", or raise {key} on the server" if key else ""
    too_large = TooLargeError(
        f"The body is larger than {max_bytes} bytes; send a shorter '{field}'{remedy}.",
        param=field,
    )
    announced = request.headers.get("content-length", "")
    stream = request.stream()
    if announced.isdecimal() and int(announced) > max_bytes:
        if "expect" not in request.headers:
            await _drain(stream)
        raise too_large
    body = bytearray()
    deadline_s = time.monotonic() + _WHOLE_BODY_S
    while (chunk := await _next_chunk(stream, deadline_s)) is not None:
        body += chunk
        if len(body) > max_bytes:
            await _drain(stream)
            raise too_large
    return bytes(body)


async def _next_chunk(stream: AsyncGenerator[bytes, None], deadline_s: float) -> bytes | None:
    """Returns the next piece of the body, or None at its end.

    Raises:
        InputError: nothing came for a while, or the deadline (of the monotonic clock) is over.
        RequestCancelledError: the client left.
    """
    try:
        patience_s = min(_STALL_S, deadline_s - time.monotonic())
        return await asyncio.wait_for(anext(stream, None), patience_s)
    except asyncio.TimeoutError as error:
        raise InputError(
            f"The body stood still for {_STALL_S:g} seconds or took longer than "
            f"{_WHOLE_BODY_S:g} seconds; send it without a break.",
            code="body_stalled",
        ) from error
    except ClientDisconnect as error:
        raise RequestCancelledError("The client left while it sent the request.") from error


async def _drain(stream: AsyncGenerator[bytes, None]) -> None:
    async def discard() -> None:
        num_bytes = 0
        async for chunk in stream:
            num_bytes += len(chunk)
            if num_bytes > _DRAIN_BYTES:
                return

    try:
        await asyncio.wait_for(discard(), _DRAIN_S)
    except (asyncio.TimeoutError, ClientDisconnect):
        return


def parse_json(body: bytes, model: type[_BodyT]) -> _BodyT:
    """Parses a JSON object into `model`.

    NaN and infinities, which Python's parser takes, reach the model's fields, whose own check
    then names the field.

    Raises:
        InputError: the body is no JSON, no object, or a field of it does not fit.
    """
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "The body is not valid JSON; send an object such as "
            '{"input": "text to speak", "voice": "default"}.',
            code="invalid_json",
        ) from error
    if not isinstance(data, dict):
        raise InputError(
            "The body must be a JSON object with the field 'input'.", code="invalid_json"
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise input_error_of(error) from error


async def parse_form(request: Request, body: bytes) -> FormData:
    """Parses a multipart body already read. The caller closes the form.

    Raises:
        InputError: it is no multipart form, or has too many or too large fields.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InputError(
            "The body must be multipart/form-data with the fields name, audio_sample and consent.",
            code="invalid_form",
        )

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        request.headers,
        chunks(),
        max_files=_MAX_FORM_FILES,
        max_fields=_MAX_FORM_FIELDS,
        max_part_size=_MAX_FORM_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except (MultiPartException, UnicodeError) as error:
        raise InputError(
            f"The multipart form can't be read: {error}; send the fields name, audio_sample "
            "and consent.",
            code="invalid_form",
        ) from error
