"""Voices over HTTP: listed, uploaded with consent, refused with a reason, deleted."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from app_calls import call_app
from scripted_engine import ScriptedEngine

from app.api.factory import create_app
from app.errors import DeviceError
from app.models.bundles import builtin_folder
from app.models.manifest import read_manifest
from app.settings import Settings

Call = Callable[..., httpx.Response]

CONSENT = "The speaker, A. Example, agreed in writing on 3 May."


def wav_of(duration_s: float, sample_rate: int = 16_000) -> bytes:
    at_s = np.arange(int(duration_s * sample_rate)) / sample_rate
    samples = (8000 * np.sin(2 * np.pi * 220 * at_s)).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def upload(call: Call, data: bytes | None = None, field: str = "audio_sample", **form: Any) -> Any:
    files = {field: ("clip.wav", wav_of(2) if data is None else data)}
    return call(
        "POST",
        "/v1/audio/voices",
        files=files,
        data={"name": "carla", "consent": CONSENT, **form},
    )


def code_of(reply: httpx.Response, status: int) -> str:
    assert reply.status_code == status, reply.text
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    return str(reply.json()["error"]["code"])


def test_the_list_has_the_shape_that_open_webui_reads(call: Call) -> None:
    listed = call("GET", "/v1/audio/voices").json()
    assert listed["object"] == "list"
    assert [(voice["id"], voice["name"]) for voice in listed["voices"]] == [
        ("anna", "anna"),
        ("bert", "bert"),
    ]
    assert listed["voices"][0]["languages"] == ["en"]
    assert call("GET", "/v1/audio/voices/bert").json()["kind"] == "builtin"


@pytest.mark.parametrize("field", ["audio_sample", "files"])
def test_an_upload_is_kept_prepared_and_spoken_with(
    engine: ScriptedEngine, call: Call, field: str
) -> None:
    reply = upload(call, field=field, ref_text="A tone.", language="en-GB")
    assert reply.status_code == 201, reply.text
    voice = reply.json()
    assert voice["name"] == "carla"
    assert voice["kind"] == "uploaded"
    assert voice["consent"] == CONSENT
    assert voice["ref_text"] == "A tone."
    assert voice["languages"] == ["en"]
    assert voice["duration_s"] == pytest.approx(2, abs=0.01)
    notes = read_manifest(builtin_folder()).notes
    assert notes
    assert voice.pop("note") == " ".join(notes)
    assert engine.prepared == ["carla"]
    for name in ("carla", "CARLA", voice["id"], {"id": voice["id"]}):
        spoken = call("POST", "/v1/audio/speech", json={"input": "Hi.", "voice": name})
        assert spoken.status_code == 200
    assert {asked.voice for asked in engine.spoken} == {"carla"}
    for name in (voice["id"], "carla"):
        assert call("GET", f"/v1/audio/voices/{name}").json() == {**voice, "note": None}
    listed = call("GET", "/v1/audio/voices").json()["voices"][-1]
    assert listed == {**voice, "consent": None, "ref_text": None, "note": None}


@pytest.mark.parametrize("key", ["id", "name"])
def test_a_deleted_voice_is_gone(call: Call, key: str) -> None:
    voice = upload(call).json()
    deleted = call("DELETE", f"/v1/audio/voices/{voice[key]}")
    assert deleted.json() == {"id": voice["id"], "object": "audio.voice.deleted", "deleted": True}
    assert code_of(call("DELETE", f"/v1/audio/voices/{voice[key]}"), 404) == "voice_not_found"
    spoken = call("POST", "/v1/audio/speech", json={"input": "Hi.", "voice": "carla"})
    assert code_of(spoken, 404) == "voice_not_found"


def test_the_models_own_voices_stay(call: Call) -> None:
    assert code_of(call("DELETE", "/v1/audio/voices/anna"), 403) == "builtin_voice"
    assert code_of(upload(call, name="Anna"), 409) == "already_exists"


def test_an_alias_deletes_nothing(call: Call) -> None:
    upload(call, name="carla")
    assert code_of(call("DELETE", "/v1/audio/voices/alloy"), 404) == "voice_not_found"


@pytest.mark.parametrize("name", ["alloy", "ALLOY", "Nova"])
def test_no_upload_takes_the_name_of_an_alias_in_any_case(call: Call, name: str) -> None:
    reply = upload(call, name=name)
    assert code_of(reply, 409) == "already_exists"
    assert "VOICE_ALIASES" in reply.json()["error"]["message"]


def test_a_voice_that_the_model_refuses_is_not_kept(engine: ScriptedEngine, call: Call) -> None:
    engine.refusal = DeviceError("The voice could not be computed.")
    assert code_of(upload(call), 500) == "device"
    assert len(call("GET", "/v1/audio/voices").json()["voices"]) == 2
    engine.refusal = None
    assert upload(call).status_code == 201


def test_no_upload_while_the_model_is_not_ready(engine: ScriptedEngine, call: Call) -> None:
    engine.state.ready = None
    assert code_of(upload(call), 503) == "not_ready"


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"consent": ""}, 403, "consent"),
        ({"consent": "  "}, 403, "consent"),
        ({"name": ""}, 400, "name"),
        ({"name": "../../etc/passwd"}, 400, "name"),
        ({"name": "a/b"}, 400, "name"),
        ({"name": "a\x00b"}, 400, "name"),
        ({"name": "x" * 65}, 400, "name"),
        ({"name": "default"}, 400, "name"),
        ({"language": "xx"}, 400, "language"),
    ],
)
def test_a_bad_form_is_named(
    engine: ScriptedEngine, call: Call, form: dict[str, str], status: int, param: str
) -> None:
    reply = upload(call, **form)
    code_of(reply, status)
    assert reply.json()["error"]["param"] == param
    assert reply.headers["x-should-retry"] == "false"
    assert not engine.prepared


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"", {400, 415}),
        (b"this is no audio", {400, 415}),
        (wav_of(0.1), {400}),
        (wav_of(121, 8000), {400, 413}),
        (b"PK\x03\x04" + bytes(1000), {400, 415}),
    ],
)
def test_a_bad_clip_is_named(
    engine: ScriptedEngine, call: Call, data: bytes, statuses: set[int]
) -> None:
    reply = upload(call, data)
    assert reply.status_code in statuses, reply.text
    assert reply.json()["error"]["param"] == "audio_sample"
    assert not engine.prepared


def test_two_uploads_of_one_name(call: Call) -> None:
    assert upload(call).status_code == 201
    assert code_of(upload(call, name="CARLA"), 409) == "already_exists"


def test_an_upload_over_the_limit(
    engine: ScriptedEngine, settings_of: Callable[..., Settings]
) -> None:
    app = create_app(settings_of(max_upload_mb=0.05), engine)
    reply = upload(lambda *args, **options: call_app(app, *args, **options), wav_of(5))
    assert code_of(reply, 413) == "too_large"
    assert "MAX_UPLOAD_MB" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "options",
    [
        {"json": {"name": "x"}},
        {"content": b"", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"junk", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"data": {"name": "x", "consent": "y", "audio_sample": "text"}},
        {"files": {"audio_sample": wav_of(1)}},
        {"files": [("audio_sample", wav_of(1)), ("files", wav_of(1))], "data": {"name": "x"}},
        {"files": [("audio_sample", b"")] * 9, "data": {"name": "x", "consent": "y"}},
        {"files": {"name": b"x", "audio_sample": wav_of(1)}, "data": {"consent": "y"}},
        {"files": {"audio_sample": b"x"}, "data": {"name": "x", "consent": "y" * 100_000}},
        {"files": {"audio_sample": b"x"}, "data": {f"f{index}": "y" for index in range(40)}},
    ],
)
def test_a_form_that_is_none(engine: ScriptedEngine, call: Call, options: dict[str, Any]) -> None:
    code_of(call("POST", "/v1/audio/voices", **options), 400)
    assert not engine.prepared
