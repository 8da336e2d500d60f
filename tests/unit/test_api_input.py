"""Bad input to `POST /v1/audio/speech`: each its one clear sentence, in OpenAI's shape."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from scripted_engine import ScriptedEngine

from app.api.errors import error_response, input_error_of
from app.api.factory import create_app
from app.errors import BusyError, OutputError, UnavailableError
from app.settings import Settings

Call = Callable[..., httpx.Response]


def error_of(reply: httpx.Response, status: int) -> dict[str, Any]:
    """Checks the shape that every error has, and returns it."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"].endswith((".", ")"))
    assert "\n" not in body["error"]["message"]
    assert reply.headers["x-request-id"]
    return dict(body["error"])


@pytest.mark.parametrize(
    ("fields", "status", "param", "said"),
    [
        ({"input": ""}, 400, "input", "nothing to speak"),
        ({"input": " \n\t"}, 400, "input", "nothing to speak"),
        ({"input": "?!… —"}, 400, "input", "nothing to speak"),
        ({"input": "\x00\x01\x07"}, 400, "input", "nothing to speak"),
        ({"input": "a" * 100_001}, 413, "input", "100001 characters and the limit is 100000"),
        ({"input": None}, 400, "input", "string"),
        ({"input": 5}, 400, "input", "string"),
        ({"input": ["a"]}, 400, "input", "string"),
        ({"voice": "nobody"}, 404, "voice", "anna"),
        ({"voice": {"id": "nobody"}}, 404, "voice", "anna"),
        ({"voice": {"name": "anna"}}, 400, "voice", "name of a voice"),
        ({"voice": ""}, 400, "voice", "name of a voice"),
        ({"voice": 7}, 400, "voice", 'an object such as {"id": "name"}.'),
        ({"voice": ["anna"]}, 400, "voice", "name of a voice"),
        ({"voice": "x" * 300}, 400, "voice", "name of a voice"),
        ({"voice": "../../etc/passwd"}, 404, "voice", "anna"),
        ({"model": "gpt-9"}, 404, "model", "tts-1"),
        ({"model": 1}, 400, "model", "string"),
        ({"response_format": "mp4"}, 400, "response_format", "'mp3', 'opus'"),
        ({"response_format": "MP3"}, 400, "response_format", "'mp3', 'opus'"),
        ({"stream_format": "wav"}, 400, "stream_format", "'audio' or 'sse'"),
        ({"speed": 0}, 400, "speed", "greater than or equal to 0.25"),
        ({"speed": 99}, 400, "speed", "less than or equal to 4"),
        ({"speed": "1.0"}, 400, "speed", "number"),
        ({"speed": True}, 400, "speed", "number"),
        ({"language": "xx"}, 400, "language", "pt"),
        ({"language": 3}, 400, "language", "string"),
        ({"seed": -1}, 400, "seed", "greater than or equal to 0"),
        ({"seed": 1.5}, 400, "seed", "integer"),
        ({"seed": 2**53}, 400, "seed", "less than or equal to"),
        ({"seed": 2**200}, 400, "seed", "less than or equal to"),
        ({"temperature": -0.1}, 400, "temperature", "greater than or equal to 0"),
        ({"temperature": 2.1}, 400, "temperature", "less than or equal to 2"),
        ({"top_p": 0}, 400, "top_p", "greater than 0"),
        ({"top_p": 1.1}, 400, "top_p", "less than or equal to 1"),
        ({"top_k": 0}, 400, "top_k", "greater than or equal to 1"),
        ({"repetition_penalty": 0}, 400, "repetition_penalty", "greater than or equal to 1"),
        ({"guidance_scale": 0.5}, 400, "guidance_scale", "greater than or equal to 1"),
        ({"guidance_scale": 11}, 400, "guidance_scale", "less than or equal to 10"),
    ],
)
def test_a_bad_field_is_named(
    engine: ScriptedEngine,
    call: Call,
    fields: dict[str, Any],
    status: int,
    param: str,
    said: str,
) -> None:
    reply = call("POST", "/v1/audio/speech", json={"input": "Hello.", **fields})
    error = error_of(reply, status)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]
    assert param in error["message"]
    assert reply.headers["x-should-retry"] == "false"
    assert not engine.spoken


@pytest.mark.parametrize(
    "field", ["speed", "temperature", "top_p", "repetition_penalty", "guidance_scale"]
)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_no_number_that_is_none(call: Call, field: str, number: str) -> None:
    body = f'{{"input": "Hello.", "{field}": {number}}}'
    error = error_of(call("POST", "/v1/audio/speech", content=body.encode()), 400)
    assert error["param"] == field
    assert "finite" in error["message"]


@pytest.mark.parametrize("field", ["input", "voice", "model", "language"])
def test_a_lone_surrogate_is_named(call: Call, field: str) -> None:
    body = json.dumps({"input": "Hello.", field: "a\ud800b"})
    error = error_of(call("POST", "/v1/audio/speech", content=body.encode()), 400)
    assert error["param"] == field
    assert "surrogate" in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"input": "Hello.", "seed": ' + b"9" * 10_000 + b"}",
        b'{"input": "\xc3"}',
    ],
)
def test_a_body_that_is_no_object(call: Call, body: bytes) -> None:
    error = error_of(call("POST", "/v1/audio/speech", content=body), 400)
    assert error["code"] == "invalid_json"


def test_a_missing_input_is_named(call: Call) -> None:
    error = error_of(call("POST", "/v1/audio/speech", json={"voice": "anna"}), 400)
    assert error["param"] == "input"
    assert error["message"] == "The field 'input' is required."


def test_control_characters_among_words_are_no_fault(call: Call) -> None:
    reply = call("POST", "/v1/audio/speech", json={"input": "Hel\x00lo\x1b[31m there\u202e."})
    assert reply.status_code == 200


def test_a_megabyte_of_text_costs_no_time(call: Call) -> None:
    start_s = time.monotonic()
    reply = call("POST", "/v1/audio/speech", json={"input": "word " * 200_000})
    assert error_of(reply, 413)["param"] == "input"
    assert time.monotonic() - start_s < 1


def test_a_body_over_the_limit_is_not_kept(
    engine: ScriptedEngine, settings_of: Callable[..., Settings]
) -> None:
    """Neither an announced length nor an endless stream is read to its end."""
    from app_calls import call_app

    app = create_app(settings_of(max_input_chars=1000), engine)
    num_sent = 0

    async def endless() -> Any:
        nonlocal num_sent
        while True:
            num_sent += 65536
            yield b"x" * 65536

    reply = call_app(app, "POST", "/v1/audio/speech", content=endless())
    assert error_of(reply, 413)["param"] == "input"
    assert num_sent < 16 << 20


def test_the_engine_not_ready(engine: ScriptedEngine, call: Call) -> None:
    engine.state.ready = None
    engine.state.phase = "starting"
    engine.state.reason = "reading the weights"
    engine.state.retry_after_s = 2.3
    for reply in (
        call("POST", "/v1/audio/speech", json={"input": "Hello."}),
        call("GET", "/ready"),
    ):
        error = error_of(reply, 503)
        assert "reading the weights" in error["message"]
        assert reply.headers["retry-after"] == "3"
        assert "x-should-retry" not in reply.headers


def test_a_model_that_failed_for_good_is_not_asked_again(
    engine: ScriptedEngine, call: Call
) -> None:
    engine.state.ready = None
    engine.state.phase = "failed"
    engine.state.reason = "model.pth is truncated; fetch it again."
    reply = call("POST", "/v1/audio/speech", json={"input": "Hello."})
    error = error_of(reply, 503)
    assert "model.pth is truncated" in error["message"]
    assert reply.headers["x-should-retry"] == "false"
    assert "retry-after" not in reply.headers


def test_an_early_failure_is_a_real_http_error(engine: ScriptedEngine, call: Call) -> None:
    for stream_format in (None, "audio", "sse"):
        engine.script.fail_at = 0
        engine.script.error = OutputError("The audio was silent in 3 tries; try another seed.")
        body = {"input": "Hello.", "stream_format": stream_format}
        reply = call("POST", "/v1/audio/speech", json=body)
        assert error_of(reply, 500)["code"] == "output_invalid"
        assert reply.headers["x-should-retry"] == "false"


def test_a_lost_worker_asks_to_come_back(engine: ScriptedEngine, call: Call) -> None:
    engine.script.fail_at = 0
    engine.script.error = UnavailableError("The worker was lost.", retry_after_s=0.2)
    reply = call("POST", "/v1/audio/speech", json={"input": "Hello."})
    error_of(reply, 503)
    assert reply.headers["retry-after"] == "1"
    assert "x-should-retry" not in reply.headers


def test_a_request_out_of_time_is_not_sent_again(engine: ScriptedEngine, call: Call) -> None:
    engine.script.fail_at = 0
    engine.script.error = UnavailableError("It took too long.", code="request_timeout")
    reply = call("POST", "/v1/audio/speech", json={"input": "Hello."})
    error_of(reply, 503)
    assert reply.headers["x-should-retry"] == "false"


def test_no_audio_at_all_is_an_error(engine: ScriptedEngine, call: Call) -> None:
    engine.script.num_segments = 0
    reply = call("POST", "/v1/audio/speech", json={"input": "Hello."})
    assert error_of(reply, 500)["code"] == "output_invalid"


def test_an_unforeseen_error_shows_nothing_of_its_inside(
    engine: ScriptedEngine, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    engine.script.fail_at = 0
    engine.script.error = KeyError("secret inside")
    reply = call(
        "POST", "/v1/audio/speech", json={"input": "Hello."}, headers={"x-request-id": "abc"}
    )
    error = error_of(reply, 500)
    assert "secret" not in reply.text
    assert "Traceback" not in reply.text
    assert error["code"] == "internal_error"
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers["x-request-id"] == "abc"
    assert "secret inside" in caplog.text
    assert "abc" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "unknown_url"),
        ("GET", "/v1/audio/speech", 405, "method_not_allowed"),
        ("GET", "/" + "x" * 9000, 404, "unknown_url"),
        ("DELETE", "/health", 405, "method_not_allowed"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
        ("GET", "/v1/audio/voices/none", 404, "voice_not_found"),
        ("DELETE", "/v1/audio/voices/none", 404, "voice_not_found"),
    ],
)
def test_routes_that_do_not_fit(call: Call, method: str, path: str, status: int, code: str) -> None:
    reply = call(method, path)
    error = error_of(reply, status)
    assert error["code"] == code
    assert len(error["message"]) < 300
    assert reply.headers["x-should-retry"] == "false"
    assert ("allow" in reply.headers) is (status == 405)


def test_the_frameworks_own_validation_has_our_shape(app: FastAPI) -> None:
    from app_calls import call_app

    async def wants_a_number(number: int) -> int:
        return number

    app.add_api_route("/number", wants_a_number)
    error = error_of(call_app(app, "GET", "/number?number=two"), 400)
    assert error["param"] == "number"


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    for given_s, sent in ((None, "1"), (0.0, "1"), (0.4, "1"), (2.1, "3")):
        reply = error_response(BusyError("Full.", retry_after_s=given_s))
        assert reply.headers["retry-after"] == sent


def test_a_long_field_name_is_cut() -> None:
    from pydantic import TypeAdapter, ValidationError

    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dict[str, int]).validate_python({"x" * 500: "no"})
    assert input_error_of(caught.value).param == "x" * 64
