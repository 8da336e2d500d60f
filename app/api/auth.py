"""API keys: who may call which route.

A key comes as `Authorization: Bearer`, `X-API-Key` or `xi-api-key`. With no keys set nothing is
asked for, and whatever a client sends is fine. Knows nothing of what the routes do.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from app.api.context import ContextDep
from app.errors import AuthError

# These only describe the schemes in the OpenAPI document; the headers are read below.
_SCHEMES = (
    HTTPBearer(auto_error=False, scheme_name="bearer"),
    APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="x-api-key"),
    APIKeyHeader(name="xi-api-key", auto_error=False, scheme_name="xi-api-key"),
)


def is_known(key: str, known: Iterable[str]) -> bool:
    """Tells whether `key` is one of `known`, in a time that does not depend on how near it is."""
    sent = key.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(sent, one.encode()) for one in known]
    return any(matches)


def sent_keys(request: Request) -> list[str]:
    """Returns the keys that the request carries, in any of the three headers."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    keys = [token.strip()] if scheme.lower() == "bearer" else []
    keys += [request.headers.get(name, "") for name in ("x-api-key", "xi-api-key")]
    return [key for key in keys if key]


async def require_key(request: Request, context: ContextDep) -> None:
    """Lets a request pass whose key is known; runs before its body is read.

    Raises:
        AuthError: no key was sent, or none that is known.
    """
    known = context.settings.api_keys
    if not known:
        return
    sent = sent_keys(request)
    if not sent:
        raise AuthError(
            "This service asks for an API key; send it as 'Authorization: Bearer KEY'.",
            code="missing_api_key",
        )
    if not any(is_known(key, known) for key in sent):
        raise AuthError("The API key is not known here; send one of those in API_KEYS.")


async def require_key_for_listing(request: Request, context: ContextDep) -> None:
    """Like `require_key`, but passes everything while PUBLIC_LISTINGS is on.

    Raises:
        AuthError: as `require_key`.
    """
    if not context.settings.public_listings:
        await require_key(request, context)


#: For routes that always need a key, and for the listings.
KEY_NEEDED = [Security(require_key), *(Security(scheme) for scheme in _SCHEMES)]
KEY_FOR_LISTING = [Security(require_key_for_listing), *(Security(scheme) for scheme in _SCHEMES)]
