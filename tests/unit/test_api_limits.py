"""Who may come in, how many at a time, and how much they may send."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from app_calls import call_app, serve
from scripted_engine import Script, ScriptedEngine

from app.api import bodies
from app.api.auth import is_known
from app.api.factory import create_app
from app.api.queue import queue_length
from app.api.slots import Slots
from app.errors import BusyError
from app.settings import Settings

SettingsOf = Callable[..., Settings]


def until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.005)


def test_the_queue_is_bounded(engine: ScriptedEngine, settings_of: SettingsOf) -> None:
    """The third of two is told to come back, nothing is asked of the worker, and later it may."""
    engine.script = Script(pause_s=0.5)
    body = {"input": "Hello."}
    with serve(create_app(settings_of(max_queue=2), engine)) as url:
        replies: list[httpx.Response] = []

        def post() -> None:
            replies.append(httpx.post(f"{url}/v1/audio/speech", json=body, timeout=30))

        threads = [threading.Thread(target=post) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: len(engine.spoken) == 2)
        assert httpx.get(f"{url}/").json()["queue_depth"] == 2
        refused = httpx.post(f"{url}/v1/audio/speech", json=body)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert "x-should-retry" not in refused.headers
        assert httpx.get(f"{url}/health").status_code == 200
        for thread in threads:
            thread.join()
        assert [reply.status_code for reply in replies] == [200, 200]
        engine.script.pause_s = 0
        assert httpx.post(f"{url}/v1/audio/speech", json=body).status_code == 200
        assert len(engine.spoken) == 3


def test_retry_after_follows_the_recent_requests() -> None:
    now_s = 0.0
    slots = Slots(
        lambda: 2, what="requests", key="MAX_QUEUE", code="queue_full", clock=lambda: now_s
    )
    assert slots.retry_after_s == 1.0
    for duration_s in (10.0, 30.0):
        with slots.take():
            now_s += duration_s
    assert slots.retry_after_s == pytest.approx(20.0 / 2)
    with slots.take(), slots.take(), pytest.raises(BusyError) as caught, slots.take():
        pass
    assert caught.value.retry_after_s == pytest.approx(10.0)
    assert slots.num_taken == 0
    now_s += 1e6
    with slots.take():
        now_s += 1e6
    assert slots.retry_after_s == 60.0


def test_the_queue_grows_with_the_rows(engine: ScriptedEngine, settings_of: SettingsOf) -> None:
    """More clients than there are rows wait; only far more are sent away."""

    def found(rows: Sequence[int], **fields: object) -> tuple[int, str]:
        models = [replace(engine.models[0], rows=number) for number in rows]
        return queue_length(settings_of(**fields), models)

    assert found([]) == found([16]) == found([1, 16]) == (32, "the default with few rows")
    assert found([16, 64]) == (128, "twice the 64 rows of a model")
    assert found([64], max_queue=3) == (3, "MAX_QUEUE")
    with serve(create_app(settings_of(), engine)) as url:
        told = httpx.get(f"{url}/v1/system").json()["queue"]
        assert told == {"places": 32, "reason": "the default with few rows"}
        engine.num_rows = 64
        assert httpx.get(f"{url}/v1/system").json()["queue"]["places"] == 128


def test_a_client_that_reads_nothing_loses_its_place(
    engine: ScriptedEngine, settings_of: SettingsOf
) -> None:
    """It holds its connection, so only that nothing can be sent tells that it has left."""
    engine.script = Script(num_segments=2000, chunk_s=5)
    body = b'{"input": "Hello.", "response_format": "pcm", "stream_format": "audio"}'
    with serve(create_app(settings_of(request_timeout_s=0.5), engine)) as url:
        host = httpx.URL(url)
        with socket.create_connection((host.host, host.port), timeout=5) as deaf:
            deaf.sendall(
                b"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            until(lambda: engine.cancelled_s)
            until(lambda: httpx.get(f"{url}/").json()["queue_depth"] == 0)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Basic one"}, 401),
        ({"Authorization": "one"}, 401),
        ({"X-API-Key": "\xe9"}, 401),
        ({"Authorization": "Bearer one"}, 200),
        ({"Authorization": "bearer two"}, 200),
        ({"X-API-Key": "one"}, 200),
        ({"xi-api-key": "two"}, 200),
    ],
)
def test_keys(
    engine: ScriptedEngine, settings_of: SettingsOf, headers: dict[str, str], status: int
) -> None:
    app = create_app(settings_of(api_keys=["one", "two"]), engine)
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    reply = call_app(app, "POST", "/v1/audio/speech", json={"input": "Hello."}, headers=raw)
    assert reply.status_code == status
    if status == 401:
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.json()["error"]["type"] == "authentication_error"
        assert reply.headers["x-should-retry"] == "false"
        assert not engine.spoken


def test_a_key_is_asked_for_before_the_body_is_read(
    engine: ScriptedEngine, settings_of: SettingsOf
) -> None:
    app = create_app(settings_of(api_keys=["one"]), engine)
    assert call_app(app, "POST", "/v1/audio/speech", content=b"{").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "public", "needs_key"),
    [
        ("GET", "/", True, False),
        ("GET", "/health", True, False),
        ("GET", "/ready", True, False),
        ("GET", "/openapi.json", True, False),
        ("GET", "/metrics", True, True),
        ("GET", "/v1/models", True, False),
        ("GET", "/v1/models", False, True),
        ("GET", "/v1/models/tts-1", False, True),
        ("GET", "/v1/audio/models", False, True),
        ("GET", "/v1/audio/voices", True, False),
        ("GET", "/v1/audio/voices", False, True),
        ("GET", "/v1/audio/voices/anna", True, True),
        ("POST", "/v1/audio/voices", True, True),
        ("DELETE", "/v1/audio/voices/anna", True, True),
    ],
)
def test_which_routes_need_a_key(
    engine: ScriptedEngine,
    settings_of: SettingsOf,
    method: str,
    path: str,
    public: bool,
    needs_key: bool,
) -> None:
    app = create_app(settings_of(api_keys=["one"], public_listings=public), engine)
    assert (call_app(app, method, path).status_code == 401) is needs_key
    with_key = call_app(app, method, path, headers={"X-API-Key": "one"})
    assert with_key.status_code != 401


def test_any_header_will_do_without_keys(call: Callable[..., httpx.Response]) -> None:
    body = {"input": "Hello."}
    for value in ("Bearer ", "Bearer anything", "nonsense"):
        headers = {"Authorization": value}
        assert call("POST", "/v1/audio/speech", json=body, headers=headers).status_code == 200


def test_keys_of_any_text_compare() -> None:
    assert is_known("ключ", ["a", "ключ"])
    assert not is_known("ключ", ["a"])
    assert not is_known("", ["a"])


def test_origins(engine: ScriptedEngine, settings_of: SettingsOf) -> None:
    app = create_app(settings_of(cors_origins=["https://page.example"], api_keys=["k"]), engine)
    origin = {"Origin": "https://page.example"}
    refused = call_app(app, "POST", "/v1/audio/speech", json={"input": "Hi."}, headers=origin)
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
    asked = call_app(
        app,
        "OPTIONS",
        "/v1/audio/speech",
        headers={
            **origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert asked.status_code == 200
    other = call_app(app, "GET", "/health", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
    without = create_app(settings_of(), engine)
    assert (
        "access-control-allow-origin"
        not in call_app(without, "GET", "/health", headers=origin).headers
    )


def test_a_body_that_stands_still_gives_up_its_place(
    engine: ScriptedEngine, settings_of: SettingsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_STALL_S", 0.2)
    with serve(create_app(settings_of(), engine)) as url:
        host = httpx.URL(url)
        with socket.create_connection((host.host, host.port), timeout=5) as slow:
            slow.sendall(
                b"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
            )
            answer = slow.recv(65536)
            while b"body_stalled" not in answer and (more := slow.recv(65536)):
                answer += more
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"body_stalled" in answer


def test_a_body_that_comes_in_drops_gives_up_its_place(
    engine: ScriptedEngine, settings_of: SettingsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_WHOLE_BODY_S", 0.5)
    start_s = time.monotonic()
    with serve(create_app(settings_of(), engine)) as url:
        host = httpx.URL(url)
        with socket.create_connection((host.host, host.port), timeout=0.05) as slow:
            slow.sendall(
                b"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
            )
            answer = b""
            while not answer and time.monotonic() - start_s < 20:
                slow.sendall(b" ")
                with suppress(TimeoutError):
                    answer = slow.recv(65536)
            slow.settimeout(5)
            while b"body_stalled" not in answer and (more := slow.recv(65536)):
                answer += more
    assert b"body_stalled" in answer


def test_a_request_cut_off_by_a_shutdown_is_told_so(
    engine: ScriptedEngine, settings_of: SettingsOf
) -> None:
    engine.script = Script(pause_s=30)
    replies: list[httpx.Response] = []
    with serve(create_app(settings_of(), engine), timeout_graceful_shutdown=1) as url:

        def post() -> None:
            body = {"input": "Hello."}
            replies.append(httpx.post(f"{url}/v1/audio/speech", json=body, timeout=30))

        thread = threading.Thread(target=post)
        thread.start()
        until(lambda: len(engine.spoken) == 1)
    thread.join()
    assert replies[0].status_code == 503
    assert replies[0].json()["error"]["code"] == "stopping"
    assert int(replies[0].headers["retry-after"]) >= 1
    assert engine.cancelled_s


def test_an_announced_body_over_the_limit_is_refused_unread(
    engine: ScriptedEngine, settings_of: SettingsOf
) -> None:
    """A client that waits for 100-continue is told no without having sent a byte."""
    with serve(create_app(settings_of(max_upload_mb=1), engine)) as url:
        host = httpx.URL(url)
        connection = http.client.HTTPConnection(host.host, host.port, timeout=5)
        connection.putrequest("POST", "/v1/audio/voices")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", str(10**12))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        reply = connection.getresponse()
        assert reply.status == 413
        connection.close()


def test_uploads_at_the_same_time_are_bounded(
    engine: ScriptedEngine, settings_of: SettingsOf
) -> None:
    with serve(create_app(settings_of(max_uploads=1), engine)) as url:
        host = httpx.URL(url)
        with socket.create_connection((host.host, host.port)) as slow:
            slow.sendall(
                b"POST /v1/audio/voices HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x"
            )
            until(lambda: "audio_voice_uploads 1.0" in httpx.get(f"{url}/metrics").text)
            form: dict[str, Any] = {"files": {"audio_sample": b"x"}, "data": {"name": "n"}}
            refused = httpx.post(f"{url}/v1/audio/voices", **form)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "too_many_uploads"
            assert int(refused.headers["retry-after"]) >= 1
        until(lambda: "audio_voice_uploads 0.0" in httpx.get(f"{url}/metrics").text)
        assert httpx.post(f"{url}/v1/audio/voices", **form).status_code == 403
