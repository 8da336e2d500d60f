"""Server-sent events of a speech request, as OpenAI's SDKs read them.

Source of the shapes: OpenAI's OpenAPI document 2.3.0 (`SpeechAudioDeltaEvent`,
`SpeechAudioDoneEvent`); `speech.audio.error` is vllm-omni's. Knows nothing of engines.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from app.api.errors import error_body
from app.errors import AudioVoiceError

#: A comment that keeps proxies from closing a silent connection; clients ignore it.
KEEP_ALIVE = b": keep-alive\n\n"


def delta_event(encoded: bytes) -> bytes:
    """Returns the event for a piece of the encoded audio."""
    audio = base64.b64encode(encoded).decode("ascii")
    return _event("speech.audio.delta", {"audio": audio})


def done_event(text_tokens: int, audio_tokens: int) -> bytes:
    """Returns the last event of a request that went well, with its usage in tokens."""
    usage = {
        "input_tokens": text_tokens,
        "output_tokens": audio_tokens,
        "total_tokens": text_tokens + audio_tokens,
    }
    return _event("speech.audio.done", {"usage": usage})


def error_event(error: AudioVoiceError) -> bytes:
    """Returns the last event of a request that failed after its answer had begun."""
    return _event("speech.audio.error", error_body(error).model_dump())


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
