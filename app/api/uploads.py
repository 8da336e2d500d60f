"""From a multipart form to a stored voice that the loaded model has accepted.

Knows the form's fields and the store; the routes are in `voices`.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile

from app.api.context import Context
from app.api.engine import Lease
from app.api.presence import in_thread
from app.audio.clip import Clip
from app.errors import AudioVoiceError, ConflictError, InputError, RefusedError
from app.messages import Ready
from app.settings import Settings
from app.text.languages import resolve_language
from app.voices.names import check_voice_name, fold_name
from app.voices.record import VoiceRecord

#: The field with the clip, and the name that other servers give it.
CLIP_FIELD = "audio_sample"
_CLIP_FIELDS = (CLIP_FIELD, "files")


@dataclass(frozen=True)
class VoiceUpload:
    """A form, checked for completeness.

    Attributes:
        name: what the voice is to be called; the store checks it.
        data: the clip's file.
        consent: the speaker's agreement, in the uploader's words.
        language, ref_text: of what the clip says; empty if not given.
    """

    name: str
    data: bytes
    consent: str
    language: str
    ref_text: str


async def upload_of(form: FormData) -> VoiceUpload:
    """Reads the form's fields.

    Raises:
        InputError: a required field is missing, or the clip is no file or more than one.
        RefusedError: no consent is given.
    """
    clips = [item for field in _CLIP_FIELDS for item in form.getlist(field)]
    if len(clips) != 1 or not isinstance(clips[0], UploadFile):
        raise InputError(
            f"The field '{CLIP_FIELD}' must hold exactly one audio file.", param=CLIP_FIELD
        )
    name = _text(form, "name")
    if not name:
        raise InputError("The field 'name' is required.", param="name")
    consent = _text(form, "consent")
    if not consent:
        raise RefusedError(
            "The field 'consent' is required: say who agreed that this voice is cloned, and how.",
            param="consent",
            code="consent_missing",
        )
    return VoiceUpload(
        name=name,
        data=await clips[0].read(),
        consent=consent,
        language=_text(form, "language"),
        ref_text=_text(form, "ref_text"),
    )


def _text(form: FormData, field: str) -> str:
    """Returns a form field's text without blanks around it; "" if it is not there.

    Raises:
        InputError: it is there as a file.
    """
    value = form.get(field, "")
    if not isinstance(value, str):
        raise InputError(f"The field '{field}' must be text, not a file.", param=field)
    return value.strip()


async def keep_voice(upload: VoiceUpload, context: Context) -> VoiceRecord:
    """Decodes the clip, stores the voice, and has the loaded model prepare it.

    A voice that the model can't use is not kept.

    Raises:
        UnavailableError: the default model is not ready.
        MediaTypeError, TooLargeError, InputError: the clip can't be used.
        ConflictError: the name is taken.
    """
    async with context.engine.lease(context.registry.default) as lease:
        return await _keep(upload, lease, context)


async def _keep(upload: VoiceUpload, lease: Lease, context: Context) -> VoiceRecord:
    check_voice_name(upload.name)
    languages = lease.ready.languages
    language = resolve_language(upload.language, languages) if upload.language else ""
    _refuse_taken(upload.name, lease.ready, context.settings)
    clip = await in_thread(_decode, upload.data, context.settings)
    record = await in_thread(
        context.store.add,
        upload.name,
        clip,
        consent=upload.consent,
        language=language,
        ref_text=upload.ref_text,
    )
    try:
        await lease.prepare_voice(record.name)
    except BaseException:
        await in_thread(context.store.delete, record.id)
        raise
    return record


def _refuse_taken(name: str, ready: Ready, settings: Settings) -> None:
    """Raises ConflictError for a name that means another voice already, in whatever case."""
    folded = fold_name(name)
    if folded in {fold_name(voice.name) for voice in ready.voices}:
        raise ConflictError(
            f"The model itself has a voice '{name}'; choose another name.", param="name"
        )
    if folded in {fold_name(alias) for alias in settings.voice_aliases}:
        raise ConflictError(
            f"'{name}' is an alias of another voice (VOICE_ALIASES); choose another name.",
            param="name",
        )


def _decode(data: bytes, settings: Settings) -> Clip:
    # FFmpeg's libraries are loaded by the first upload, not at the start.
    from app.audio.decode import decode_clip

    try:
        return decode_clip(data, max_s=settings.max_clip_s, min_s=settings.min_clip_s)
    except AudioVoiceError as error:
        error.param = error.param or CLIP_FIELD
        raise
