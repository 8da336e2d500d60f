"""Models by name over HTTP, and the routes that hand an alias over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from app_calls import call_app
from pooled import make_model
from scripted_engine import Script, ScriptedEngine

from app.api.factory import create_app
from app.errors import DoesNotFitError, OutputError
from app.models.bundles import builtin_folder
from app.models.manifest import read_manifest
from app.settings import Settings

Call = Callable[..., httpx.Response]

SPOKEN = Script(chunk_s=2.4)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return make_model(tmp_path / "models" / "mine")


def error_of(reply: httpx.Response, status: int) -> tuple[str, str]:
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    return error["code"], error["message"]


def promote(call: Call, alias: str, **body: object) -> httpx.Response:
    return call("PUT", f"/v1/aliases/{alias}", json=body)


def test_the_model_of_a_request_is_the_one_that_speaks(
    engine: ScriptedEngine, call: Call, mine: Path
) -> None:
    for wanted, meant in (("mine", "mine"), ("tts-1", "builtin"), (None, "builtin")):
        reply = call("POST", "/v1/audio/speech", json={"input": "Hi.", "model": wanted})
        assert reply.status_code == 200
        assert engine.leased[-1] == meant
    code, message = error_of(
        call("POST", "/v1/audio/speech", json={"input": "Hi.", "model": "other"}), 404
    )
    assert code == "model_not_found"
    assert "builtin, mine, default, tts-1" in message


def test_a_model_that_was_just_exported_is_listed(call: Call, mine: Path) -> None:
    def states() -> dict[str, str]:
        return {m["id"]: m["state"] for m in call("GET", "/v1/models").json()["data"]}

    assert states()["mine"] == "unloaded"
    make_model(mine.parent / "newer")
    assert list(states())[:3] == ["builtin", "mine", "newer"]
    assert call("GET", "/v1/models/newer").json()["languages"] == ["en"]
    ids = [model["id"] for model in call("GET", "/v1/audio/models").json()["models"]]
    assert "newer" in ids


def test_a_checkpoint_has_a_folder_in_its_name(call: Call, mine: Path) -> None:
    (mine / "model.pth").rename(mine / "checkpoint_epoch_2.pt")
    reply = call("GET", "/v1/models/mine/checkpoint_epoch_2")
    assert reply.json()["id"] == "mine/checkpoint_epoch_2"


def test_voices_of_a_model_that_is_not_loaded(
    engine: ScriptedEngine, call: Call, tmp_path: Path
) -> None:
    shutil.copytree(builtin_folder(), tmp_path / "models" / "mine")

    def voices(**query: str) -> list[str]:
        listed = call("GET", "/v1/audio/voices", params=query).json()["voices"]
        return [voice["id"] for voice in listed]

    assert voices() == voices(model="tts-1") == ["anna", "bert"]  # as the worker says
    assert voices(model="mine") == list(read_manifest(builtin_folder()).voices)
    assert call("GET", "/v1/audio/voices", params={"model": "nobody"}).status_code == 404
    assert engine.leased == []


def test_promote_and_roll_back(engine: ScriptedEngine, call: Call, mine: Path) -> None:
    engine.script = SPOKEN
    reply = promote(call, "tts-1", model="mine")
    assert reply.status_code == 200, reply.text
    told = reply.json()
    assert (told["id"], told["model"], told["before"]) == ("tts-1", "mine", "builtin")
    assert told["canary"]["audio_s"] == pytest.approx(2.4)
    assert engine.spoken[-1].text == told["canary"]["text"]
    listed = {alias["id"]: alias for alias in call("GET", "/v1/aliases").json()["data"]}
    assert (listed["tts-1"]["model"], listed["tts-1"]["previous"]) == ("mine", ["(settings)"])
    assert listed["default"]["model"] == "builtin"
    assert listed["default"]["changed_at"] is None
    back = call("POST", "/v1/aliases/tts-1/rollback")
    assert (back.status_code, back.json()["model"]) == (200, "builtin")
    assert error_of(call("POST", "/v1/aliases/tts-1/rollback"), 404)[0] == "nothing_to_roll_back"


def test_a_promotion_that_fails_says_why_and_changes_nothing(
    engine: ScriptedEngine, call: Call, mine: Path
) -> None:
    code, message = error_of(promote(call, "default", model="mine"), 409)  # a quarter of a second
    assert code == "canary_failed"
    assert "stays" in message
    assert "too_short" in message
    engine.script = Script(fail_at=0, error=OutputError("Only noise came."))
    assert "Only noise came." in error_of(promote(call, "default", model="mine"), 409)[1]
    engine.script = Script(fail_at=0, error=DoesNotFitError("It is too large."))
    reply = promote(call, "default", model="mine")
    assert error_of(reply, 507)[0] == "does_not_fit"
    assert reply.headers["x-should-retry"] == "false"
    assert error_of(promote(call, "default", model="nobody"), 404)[0] == "model_not_found"
    assert error_of(promote(call, "default"), 400)[1] == "The field 'model' is required."
    assert error_of(promote(call, "b%20d", model="mine"), 400)[0] == "invalid_value"
    code, message = error_of(promote(call, "default", model="m" * 100_000), 413)
    assert (code, message.count("shorter 'model'.")) == ("too_large", 1)
    assert error_of(promote(call, "mine", model="builtin"), 409)[0] == "already_exists"
    assert call("GET", "/v1/aliases").json()["data"][0]["model"] == "builtin"


def test_aliases_need_a_key_where_keys_are_set(
    engine: ScriptedEngine, settings_of: Callable[..., Settings], mine: Path
) -> None:
    app = create_app(settings_of(api_keys=["k"]), engine)
    for method, url in (
        ("GET", "/v1/aliases"),
        ("PUT", "/v1/aliases/default"),
        ("POST", "/v1/aliases/default/rollback"),
    ):
        assert call_app(app, method, url).status_code == 401
    engine.script = SPOKEN
    key = {"Authorization": "Bearer k"}
    reply = call_app(app, "PUT", "/v1/aliases/default", headers=key, json={"model": "mine"})
    assert reply.status_code == 200


def test_a_default_that_made_room_can_still_speak(engine: ScriptedEngine, call: Call) -> None:
    assert call("GET", "/ready").json()["is_loaded"] is True
    engine.state.phase, engine.state.reason = "unloaded", "unloaded to make room for mine"
    reply = call("GET", "/ready")
    assert reply.status_code == 200
    assert reply.json()["is_loaded"] is False
    assert reply.json()["model"] == "builtin"
