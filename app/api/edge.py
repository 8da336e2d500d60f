"""The outermost layer of the app: request ids, request counts, and errors nobody foresaw.

Knows nothing of routes but the pattern that the router matched.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import error_response, unexpected_response
from app.errors import UnavailableError
from app.metrics import Metrics

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_CLIENT_LEFT = 499
#: What a restart of the service takes, about.
_RESTART_S = 10.0
_KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_log = logging.getLogger(__name__)


def request_id_of(request: Request) -> str:
    """Returns the id under which a request is logged and answered."""
    return str(request.state.request_id)


class Edge:
    """ASGI middleware around the whole app.

    Gives each request an id (the client's own if it sent a sane one) and each answer the header
    `X-Request-Id`, counts the answer, and turns an unforeseen exception into a 500 that says
    nothing of its inside. After the first byte there is no answer left to give: the app returns
    with the response unfinished, upon which the server closes the connection.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _id_for(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        status = _CLIENT_LEFT

        async def send_tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_tagged)
        except asyncio.CancelledError:
            # Requests are only cancelled by a shutdown whose grace is over.
            if status != _CLIENT_LEFT:
                raise
            await error_response(_stopping())(scope, receive, send_tagged)
        except Exception:  # noqa: BLE001 - the process's edge: nothing above could answer
            _log.exception("unexpected error in request %s", request_id)
            if status == _CLIENT_LEFT:
                await unexpected_response()(scope, receive, send_tagged)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in _KNOWN_METHODS else "other"
            self._metrics.count_request(method, route, status)


def _stopping() -> UnavailableError:
    return UnavailableError(
        "The service is stopping; try again in a few seconds.",
        code="stopping",
        retry_after_s=_RESTART_S,
    )


def _id_for(headers: Headers) -> str:
    sent = headers.get("x-request-id", "")
    return sent if _SANE_ID.fullmatch(sent) else uuid.uuid4().hex
