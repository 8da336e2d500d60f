"""`POST /v1/audio/speech`: text in, speech out, as OpenAI's SDKs ask for it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.auth import KEY_NEEDED
from app.api.bodies import parse_json, read_body
from app.api.context import ContextDep
from app.api.edge import request_id_of
from app.api.openapi import errors_of, json_body
from app.api.order import model_for
from app.api.presence import in_thread
from app.api.reply import SpeechReply
from app.api.schemas import SpeechRequest
from app.audio.formats import FORMATS

router = APIRouter(tags=["speech"])

# JSON may write a character as `\uXXXX` twice (12 bytes); the rest is for the other fields.
_MAX_BYTES_PER_CHAR = 12
_OTHER_FIELDS_BYTES = 64 << 10

_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_EXAMPLE = {"model": "tts-1", "voice": "alloy", "input": "The wind rose before the morning came."}
_HEADERS = {
    "X-Audio-Verdict": "What the output checks said: `ok` or `retried`, for how many segments.",
    "X-Audio-Seed": "The seed used; send it again for the same audio.",
    "X-Audio-Language": "The language spoken, where it is known when the answer begins.",
    "X-Audio-Model": "The model that speaks; no alias.",
    "X-Audio-Route": "The device, with what it was held to, and instead of which.",
    "X-Request-Id": "Names this request in the service's log.",
}
_EVENTS = (
    "Events `speech.audio.delta`, then `speech.audio.done` or `speech.audio.error`; the data of "
    "each is a JSON object whose `type` is the event's name."
)
_SPOKEN: dict[str, Any] = {
    "description": "Speech, in the format asked for; or events, with `stream_format` sse.",
    "content": {
        **{entry.content_type: _BINARY for entry in FORMATS.values()},
        "text/event-stream": {"schema": {"description": _EVENTS}},
    },
    "headers": {
        name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()
    },
}


@router.post(
    "/v1/audio/speech",
    summary="Speak a text",
    dependencies=KEY_NEEDED,
    response_class=Response,
    responses={200: _SPOKEN, **errors_of(400, 401, 404, 413, 429, 500, 503, 507)},
    openapi_extra=json_body("SpeechRequest", _EXAMPLE),
)
async def create_speech(request: Request, context: ContextDep) -> Response:
    """Returns speech. Fields that are not listed here are ignored."""
    limit = _MAX_BYTES_PER_CHAR * context.settings.max_input_chars + _OTHER_FIELDS_BYTES
    body = await read_body(request, limit, field="input", key="MAX_INPUT_CHARS")
    wanted = parse_json(body, SpeechRequest)
    # a thread, for a long text takes a while to check and the models are listed from disk
    model = await in_thread(model_for, wanted, context)
    return SpeechReply(wanted, model, context, request_id_of(request))
