"""The command line's way to a running service: found, asked, and its errors told as they are."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from app.commands.service import RunningService
from app.errors import AuthError, InputError, UnavailableError
from app.settings import Settings


def service_at(url: str, **fields: object) -> RunningService:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return RunningService(Settings(_env_file=None, api_host=host, api_port=int(port), **fields))


class Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_service_is_asked(served: str) -> None:
    service = service_at(served)
    assert service.is_there()
    listed = service.ask("GET", "/v1/models")
    assert listed["data"][0]["id"] == "builtin"
    with pytest.raises(InputError, match="no model 'nobody'") as caught:
        service.ask("PUT", "/v1/aliases/default", {"model": "nobody"})
    assert caught.value.code == "model_not_found"
    with pytest.raises(InputError, match="canary") as caught:  # what it says is far too short
        service.ask("PUT", "/v1/aliases/default", {"model": "builtin"})
    assert caught.value.code == "canary_failed"


def test_every_address_of_this_machine_is_asked_at_home(served: str) -> None:
    port = int(served.rpartition(":")[2])
    service = RunningService(Settings(_env_file=None, api_host="0.0.0.0", api_port=port))
    assert service.address == f"127.0.0.1:{port}"
    assert service.is_there()


def test_nothing_or_another_program_is_no_service(stranger: str) -> None:
    assert not service_at(stranger).is_there()
    with pytest.raises(UnavailableError, match="did not answer"):
        service_at(stranger).ask("GET", "/v1/models")
    assert not service_at("http://127.0.0.1:9").is_there()


def test_a_key_that_is_not_known_is_named() -> None:
    from app.commands.service import _error_of

    told = {"error": {"message": "The API key is not known here.", "code": "invalid_api_key"}}
    error = _error_of(401, told)
    assert isinstance(error, AuthError)
    assert "API_KEYS" in error.message
