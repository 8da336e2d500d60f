"""Bad input to a real server: each its clear error, no 5xx, and the service goes on."""

from __future__ import annotations

import io
import json
import time
import zipfile

import httpx
import numpy as np
import psutil
import pytest
from listening import TEXT
from live_server import LiveServer

from app.audio.encode import encode_whole

pytestmark = [pytest.mark.live, pytest.mark.slow]

CONSENT = "The voice is this service's own."
_HOUR_S = 3600


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": "?! … ¡¿ —"}, 400, "input"),
        ({"input": "\x00\x01\x02\x7f"}, 400, "input"),
        ({"input": "a" * 1_000_000}, 413, "input"),
        ({"input": "😀" * 1_000_000}, 413, "input"),
        ({"input": "a\ud800"}, 400, "input"),
        ({"voice": "nobody"}, 404, "voice"),
        ({"model": "gpt-9"}, 404, "model"),
        ({"response_format": "mp4"}, 400, "response_format"),
        ({"language": "tlh"}, 400, "language"),
        ({"speed": 0}, 400, "speed"),
        ({"speed": 99}, 400, "speed"),
        ({"speed": float("nan")}, 400, "speed"),
        ({"temperature": float("inf")}, 400, "temperature"),
    ],
)
def test_a_bad_field_is_named_at_once(
    server: LiveServer, fields: dict[str, object], status: int, param: str
) -> None:
    body = json.dumps({"input": TEXT, **fields}).encode()
    start_s = time.monotonic()
    reply = httpx.post(f"{server.url}/v1/audio/speech", content=body, timeout=30)
    assert time.monotonic() - start_s < 3
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["param"] == param
    assert error["message"].endswith(".")
    assert reply.headers["x-should-retry"] == "false"


def test_control_characters_among_words_are_left_out(server: LiveServer) -> None:
    order = {"response_format": "pcm", "seed": 1}
    url = f"{server.url}/v1/audio/speech"
    plain = httpx.post(url, json={"input": TEXT, **order}, timeout=60)
    dirty = httpx.post(url, json={"input": f"\x00{TEXT}\x1b\u202e", **order}, timeout=60)
    assert dirty.status_code == 200
    assert dirty.content == plain.content


def upload(server: LiveServer, name: str, data: bytes) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/audio/voices",
        files={"audio_sample": ("clip", data)},
        data={"name": name, "consent": CONSENT},
        timeout=60,
    )


def zip_bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clip.wav", bytes(100_000_000))
    return stream.getvalue()


def silence(duration_s: float, rate: int = 8000) -> bytes:
    return encode_whole("flac", rate, np.zeros(int(duration_s * rate), dtype="<i2").tobytes())


def resident_bytes(server: LiveServer) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


@pytest.mark.parametrize(
    ("make_clip", "statuses"),
    [
        (lambda: b"", {400, 415}),
        (lambda: b"this is no audio at all", {400, 415}),
        (lambda: silence(0.1), {400}),
        (lambda: silence(2 * _HOUR_S), {400, 413}),
        (zip_bomb, {400, 415}),
        (lambda: bytes(30_000_000), {413}),
    ],
    ids=["empty", "text", "0.1 s", "2 hours", "zip bomb", "30 MB"],
)
def test_a_bad_clip_is_named_and_costs_little(
    server: LiveServer, make_clip: object, statuses: set[int]
) -> None:
    assert callable(make_clip)
    data = make_clip()
    before = resident_bytes(server)
    reply = upload(server, "bad", data)
    assert reply.status_code in statuses, reply.text
    assert reply.json()["error"]["param"] == "audio_sample"
    assert resident_bytes(server) - before < 150_000_000
    voices = httpx.get(f"{server.url}/v1/audio/voices").json()["voices"]
    assert "bad" not in [voice["name"] for voice in voices]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "C:\\x", "x" * 300])
def test_a_path_is_no_name(server: LiveServer, name: str) -> None:
    reply = upload(server, name, silence(2))
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == "name"


def test_a_good_clip_becomes_a_voice(server: LiveServer) -> None:
    """The model's own speech, uploaded as a voice; spoken with; deleted."""
    url = f"{server.url}/v1/audio/speech"
    order = {"input": f"{TEXT} {TEXT}", "response_format": "wav", "seed": 1}
    clip = httpx.post(url, json=order, timeout=60).content
    stored = upload(server, "Maria José", clip)
    assert stored.status_code == 201, stored.text
    voice = stored.json()
    assert voice["consent"] == CONSENT
    for name in ("maria josé", {"id": voice["id"]}):
        spoken = httpx.post(url, json={"input": TEXT, "voice": name, "seed": 1}, timeout=60)
        assert spoken.status_code == 200, spoken.text
    assert httpx.delete(f"{server.url}/v1/audio/voices/{voice['id']}").json()["deleted"]
    gone = httpx.post(url, json={"input": TEXT, "voice": "maria josé"}, timeout=60)
    assert gone.status_code == 404
