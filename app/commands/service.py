"""Asks the service that runs on this machine, if one does: a few JSON routes over HTTP.

With the standard library alone, for the command line has no other use for a client.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

from app.errors import AudioVoiceError, AuthError, InputError, UnavailableError
from app.settings import Settings

_WHOLE_NETWORK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be told apart, not bound
_HELLO_S = 3.0
#: A hand-over waits for a model to be loaded and to speak.
_WORK_S = 900.0


class RunningService:
    """The service at API_HOST and API_PORT.

    Args:
        settings: the address, and the keys, of which the first is sent.
    """

    def __init__(self, settings: Settings) -> None:
        self._host = _WHOLE_NETWORK.get(settings.api_host, settings.api_host)
        self._port = settings.api_port
        self._headers = {"Content-Type": "application/json"}
        if settings.api_keys:
            self._headers["Authorization"] = f"Bearer {settings.api_keys[0]}"

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self._host}:{self._port}"

    def is_there(self) -> bool:
        """Says whether a service of this program answers."""
        try:
            status, told = self._ask("GET", "/", None, _HELLO_S)
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return status == 200 and isinstance(told, dict) and told.get("name") == "audio-voice"

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the JSON object that a route answers.

        Raises:
            AudioVoiceError: what the service said of it, or that it can't be asked any more.
        """
        try:
            status, told = self._ask(method, path, body, _WORK_S)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnavailableError(
                f"The service at {self.address} did not answer ({error}): look at its log."
            ) from error
        if status < 400 and isinstance(told, dict):
            return told
        raise _error_of(status, told)

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, self._headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()


def _error_of(status: int, told: Any) -> AudioVoiceError:
    error = told.get("error", {}) if isinstance(told, dict) else {}
    message, code = str(error.get("message", f"The service answered {status}.")), error.get("code")
    if status == 401:
        return AuthError(f"{message} The first of API_KEYS in .env is what this command sends.")
    if status < 500:
        return InputError(message, param=error.get("param"), code=code)
    return AudioVoiceError(message, param=error.get("param"), code=code)
