"""The voices: listed for OpenAI's SDKs and Open WebUI, uploaded, and deleted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.api.auth import KEY_FOR_LISTING, KEY_NEEDED
from app.api.bodies import parse_form, read_body
from app.api.context import Context, ContextDep
from app.api.notes import model_notes
from app.api.openapi import errors_of
from app.api.presence import in_thread
from app.api.schemas import Voice, VoiceDeleted, VoiceList
from app.api.uploads import CLIP_FIELD, keep_voice, upload_of
from app.errors import NotFoundError, RefusedError
from app.messages import VoiceInfo
from app.voices.record import VoiceRecord

router = APIRouter(tags=["voices"])

_BYTES_PER_MB = 1_000_000
# The multipart form around the clip: boundaries and the other fields
_FORM_BYTES = 64 << 10
# Names that an error lists
_NUM_LISTED = 20

_TEXT = {"type": "string"}
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "audio_sample", "consent"],
                    "properties": {
                        "name": {**_TEXT, "description": "What the voice is to be called."},
                        "audio_sample": {
                            **_TEXT,
                            "format": "binary",
                            "description": "The reference clip; also taken as `files`.",
                        },
                        "consent": {
                            **_TEXT,
                            "description": "Who agreed that this voice is cloned, and how; kept.",
                        },
                        "ref_text": {**_TEXT, "description": "What the clip says."},
                        "language": {**_TEXT, "description": "Language of the clip, e.g. `en`."},
                    },
                }
            }
        },
    }
}


@router.get(
    "/v1/audio/voices",
    summary="List voices",
    dependencies=KEY_FOR_LISTING,
    responses=errors_of(401, 404),
)
async def list_voices(
    context: ContextDep,
    model: Annotated[
        str | None, Query(description="A model or alias; left out: the default model.")
    ] = None,
) -> VoiceList:
    """Returns a model's own voices and the uploaded ones.

    The list may be public, so it leaves out what an uploader said of the speaker.
    """
    voices = await _voices(context, model)
    private = {"consent": None, "ref_text": None}
    return VoiceList(voices=[voice.model_copy(update=private) for voice in voices])


@router.post(
    "/v1/audio/voices",
    summary="Upload a voice",
    status_code=201,
    dependencies=KEY_NEEDED,
    responses=errors_of(400, 401, 403, 409, 413, 415, 429, 500, 503, 507),
    openapi_extra=_FORM,
)
async def upload_voice(request: Request, context: ContextDep) -> Voice:
    """Stores a reference clip under a name and has the default model prepare it."""
    limit = int(context.settings.max_upload_mb * _BYTES_PER_MB) + _FORM_BYTES
    with context.upload_slots.take():
        body = await read_body(request, limit, field=CLIP_FIELD, key="MAX_UPLOAD_MB")
        form = await parse_form(request, body)
        try:
            upload = await upload_of(form)
        finally:
            await form.close()
        record = await keep_voice(upload, context)
    notes = await in_thread(model_notes, context.registry)
    return _uploaded(record).model_copy(update={"note": " ".join(notes) or None})


@router.get(
    "/v1/audio/voices/{voice_id}",
    summary="Get a voice",
    dependencies=KEY_NEEDED,
    responses=errors_of(401, 404),
)
async def get_voice(voice_id: str, context: ContextDep) -> Voice:
    """Returns one voice."""
    return await _find(voice_id, context)


@router.delete(
    "/v1/audio/voices/{voice_id}",
    summary="Delete an uploaded voice",
    dependencies=KEY_NEEDED,
    responses=errors_of(401, 403, 404),
)
async def delete_voice(voice_id: str, context: ContextDep) -> VoiceDeleted:
    """Deletes an uploaded voice: its clip, its consent and what was computed of it."""
    found = await _find(voice_id, context)
    if found.kind == "builtin":
        raise RefusedError(
            f"The voice '{found.name}' belongs to the model; only uploaded voices can be deleted.",
            param="voice_id",
            code="builtin_voice",
        )
    await in_thread(context.store.delete, found.id)
    return VoiceDeleted(id=found.id)


async def _find(voice_id: str, context: Context) -> Voice:
    """Returns the voice of that id or name; here no alias counts, for one could be deleted by it.

    Raises:
        NotFoundError: there is none.
    """
    voices = await _voices(context)
    for voice in voices:
        if voice_id in (voice.id, voice.name):
            return voice
    names = ", ".join(voice.name for voice in voices[:_NUM_LISTED]) or "none yet"
    raise NotFoundError(
        f"There is no voice '{voice_id[:100]}'; there are: {names}.",
        param="voice_id",
        code="voice_not_found",
    )


async def _voices(context: Context, model: str | None = None) -> list[Voice]:
    own = await in_thread(_own_voices, context, model)
    stored = await in_thread(context.store.list)
    return [*(_builtin(info) for info in own), *(_uploaded(record) for record in stored)]


def _own_voices(context: Context, model: str | None) -> list[VoiceInfo]:
    """Returns the voices of a model: as its worker said, else as its manifest says."""
    name = context.registry.resolve(model)
    states = {status.name: status.state for status in context.engine.models}
    ready = states[name].ready if name in states else None
    if ready is None and name == context.registry.default:
        ready = context.engine.state.ready
    if ready is not None:
        return ready.voices
    bundle = context.registry.bundles().get(name)
    entries = bundle.manifest.voices if bundle and bundle.manifest else {}
    return [
        VoiceInfo(name=voice, languages=entry.languages, description=entry.description)
        for voice, entry in entries.items()
    ]


def _builtin(info: VoiceInfo) -> Voice:
    return Voice(
        id=info.name,
        name=info.name,
        kind="builtin",
        languages=info.languages,
        description=info.description,
    )


def _uploaded(record: VoiceRecord) -> Voice:
    return Voice(
        id=record.id,
        name=record.name,
        kind="uploaded",
        languages=[record.language] if record.language else [],
        ref_text=record.ref_text or None,
        consent=record.consent,
        created_at=int(record.created_at),
        duration_s=record.duration_s,
    )
