"""Fetching XTTS-v2 with the real client from a small hub of our own, over HTTP."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from app.errors import ModelFileError, NotFoundError, RefusedError, UnavailableError
from app.models.bundles import find_bundle
from app.models.download import XTTS_V2_SOURCE, fetch_model
from app.settings import Settings

CONFIG = {"model": "xtts", "model_args": {"gpt_use_perceiver_resampler": True}}
# larger than the client's read blocks, so that an interruption leaves a part behind
WEIGHTS = bytes(range(256)) * (48 * 1024)
FILES = {
    "model.pth": WEIGHTS,
    "config.json": json.dumps(CONFIG).encode(),
    "vocab.json": b"{}",
    "LICENSE.txt": b"Coqui Public Model License",
}
REVISION = XTTS_V2_SOURCE.revision
_FILE_RE = re.compile(rf"/coqui/XTTS-v2/resolve/{REVISION}/(.+)")
_CHUNK = 1 << 18


@dataclass
class FakeHub:
    """What the hub serves, how it misbehaves, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    #: large files by name -> the bytes sent before the connection is dropped, once
    drop_after: dict[str, int] = field(default_factory=dict)
    #: name -> bytes sent in place of the true ones
    spoiled: dict[str, bytes] = field(default_factory=dict)
    ranges: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def describe(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": blob}
        if name.endswith(".pth"):
            sha256 = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 134}
        return entry

    def etag(self, name: str) -> str:
        entry = self.describe(name)
        return str(entry.get("lfs", entry)["oid"])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    @property
    def hub(self) -> FakeHub:
        hub: FakeHub = self.server.hub
        return hub

    def log_message(self, *args: Any) -> None:
        """Keeps the test's output clean."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path != f"/api/models/coqui/XTTS-v2/paths-info/{REVISION}":
            self.send_error(404)
            return
        wanted = urllib.parse.parse_qs(body)["paths"]
        listing = [self.hub.describe(name) for name in wanted if name in self.hub.files]
        self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def do_HEAD(self) -> None:
        self._serve_file(with_body=False)

    def do_GET(self) -> None:
        self._serve_file(with_body=True)

    def _serve_file(self, *, with_body: bool) -> None:
        match = _FILE_RE.fullmatch(self.path)
        if match is None or match[1] not in self.hub.files:
            self.send_error(404)
            return
        name = match[1]
        data = self.hub.spoiled.get(name, self.hub.files[name])
        headers = {"ETag": f'"{self.hub.etag(name)}"', "X-Repo-Commit": REVISION}
        status, asked = 200, self.headers.get("Range")
        if with_body:
            self.hub.ranges.append((name, asked or ""))
        if asked is not None:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], 206
        self._send(status, data, headers, name if with_body else None)

    def _send(
        self, status: int, data: bytes, headers: dict[str, str], name: str | None = ""
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if name is None:
            return
        kept = self.hub.drop_after.pop(name, len(data))
        for start in range(0, kept, _CHUNK):
            self.wfile.write(data[start : min(start + _CHUNK, kept)])
        if kept < len(data):
            self.close_connection = True


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = FakeHub(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.hub
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(models_dir=tmp_path / "models", coqui_tos_agreed=True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own download cache must not answer for the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def test_fetches_everything_and_publishes_it_whole(hub: FakeHub, settings: Settings) -> None:
    folder = fetch_model("xtts-v2", settings, endpoint=hub.url)

    assert folder == settings.models_dir / "xtts-v2"
    for name, data in FILES.items():
        assert (folder / name).read_bytes() == data
    assert {path.name for path in folder.iterdir()} == {*FILES, "source.json"}
    assert not (settings.models_dir / ".xtts-v2.partial").exists()
    bundle = find_bundle("xtts-v2", settings)
    assert bundle.licence == "Coqui Public Model License 1.0.0"
    assert bundle.version == REVISION


def test_what_is_there_is_not_fetched_again(hub: FakeHub, settings: Settings) -> None:
    fetch_model("xtts-v2", settings, endpoint=hub.url)
    hub.ranges.clear()
    fetch_model("xtts-v2", settings, endpoint=hub.url)
    fetch_model("xtts-v2", settings, endpoint="http://127.0.0.1:9")
    assert hub.ranges == []


def test_an_interrupted_download_resumes(hub: FakeHub, settings: Settings) -> None:
    hub.drop_after["model.pth"] = len(WEIGHTS) - 1000
    with pytest.raises(UnavailableError, match=r"start again; what arrived is kept"):
        fetch_model("xtts-v2", settings, endpoint=hub.url)
    assert not (settings.models_dir / "xtts-v2").exists()
    parts = list((settings.models_dir / ".xtts-v2.partial").rglob("*.incomplete"))
    kept = sum(part.stat().st_size for part in parts)
    assert kept > 0

    folder = fetch_model("xtts-v2", settings, endpoint=hub.url)

    assert hub.ranges[1] == ("model.pth", f"bytes={kept}-")
    assert (folder / "model.pth").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["model.pth", "vocab.json"])
def test_a_wrong_checksum_is_refused(hub: FakeHub, settings: Settings, name: str) -> None:
    right = FILES[name]
    hub.spoiled[name] = b"x" + right[1:]
    with pytest.raises(ModelFileError, match=rf"{re.escape(name)} arrived damaged"):
        fetch_model("xtts-v2", settings, endpoint=hub.url)
    assert not (settings.models_dir / "xtts-v2").exists()

    hub.spoiled.clear()
    folder = fetch_model("xtts-v2", settings, endpoint=hub.url)
    assert (folder / name).read_bytes() == right


def test_without_the_licence_nothing_is_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path / "models")
    with pytest.raises(RefusedError) as caught:
        fetch_model("xtts-v2", settings, endpoint=hub.url)
    message = caught.value.message
    assert "Coqui Public Model License 1.0.0" in message
    assert "non-commercial" in message
    assert "COQUI_TOS_AGREED=1" in message
    assert hub.ranges == []
    assert not (tmp_path / "models").exists()


def test_no_hub_to_reach(settings: Settings) -> None:
    with pytest.raises(UnavailableError, match=r"coqui/XTTS-v2 could not be fetched"):
        fetch_model("xtts-v2", settings, endpoint="http://127.0.0.1:9")


def test_offline_mode(hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.utils.reset_sessions()
    try:
        with pytest.raises(UnavailableError, match=r"HF_HUB_OFFLINE"):
            fetch_model("xtts-v2", settings, endpoint=hub.url)
    finally:
        monkeypatch.undo()
        huggingface_hub.utils.reset_sessions()


def test_a_repository_without_a_needed_file(hub: FakeHub, settings: Settings) -> None:
    del hub.files["config.json"]
    with pytest.raises(ModelFileError, match=r"lacks config\.json"):
        fetch_model("xtts-v2", settings, endpoint=hub.url)


def test_a_full_disk_is_noticed_before_the_download(
    hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("app.models.download.shutil.disk_usage", lambda _: usage)
    with pytest.raises(UnavailableError, match=r"MODELS_DIR") as caught:
        fetch_model("xtts-v2", settings, endpoint=hub.url)
    assert caught.value.code == "disk_full"
    assert hub.ranges == []


def test_several_at_once_fetch_once(hub: FakeHub, settings: Settings) -> None:
    threads = [
        threading.Thread(
            target=fetch_model, args=("xtts-v2", settings), kwargs={"endpoint": hub.url}
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, _ in hub.ranges) == sorted(FILES)
    assert (settings.models_dir / "xtts-v2" / "model.pth").read_bytes() == WEIGHTS


def test_only_xtts_v2_is_known(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match=r"'bark'"):
        fetch_model("bark", settings)
