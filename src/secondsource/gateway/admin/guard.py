"""Who may use the admin listener: whoever holds its key, on loopback anybody on this machine, no foreign web page."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from secondsource.core.addresses import is_loopback
from secondsource.core.fleet import AdminListener, Fleet
from secondsource.gateway.wire.errors import error_body

HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d{1,5})?")
READS = ("GET", "HEAD")
OUR_OWN_SITE = ("same-origin", "none")


class Guard:
    """Lets nobody in without the key, and no web page of another origin in by a rebound name.

    A browser sends the name it looked up as `Host`, so a page that makes its own name point to 127.0.0.1 still
    asks for its own name; on loopback only loopback's own names are answered. `is_public` names the paths that hold
    nothing to be kept from anybody: the console's own page, which asks for the key.
    """

    def __init__(
        self, app: ASGIApp, listener: AdminListener, is_public: Callable[[str], bool] = lambda _path: False
    ) -> None:
        self._app = app
        self._key_sha256 = listener.key_sha256
        self._names = {listener.host.lower(), "localhost"} if is_loopback(listener.host) else None
        self._is_public = is_public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on to the application."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                answered["x-request-id"] = f"adm_{secrets.token_hex(12)}"
                answered.setdefault("cache-control", "no-store")
                answered["x-content-type-options"] = "nosniff"
            await send(message)

        answer: ASGIApp = self._app
        public = scope["method"] in READS and self._is_public(scope["path"])
        if not self._knows(headers.get("host", "")):
            message = "this listener answers to loopback names only, such as http://127.0.0.1 or http://localhost"
            answer = refusal(403, message, code="host_not_allowed")
        elif not public and not self._holds_key(headers.get("authorization", "")):
            answer = refusal(
                401, "the admin listener needs its key: 'Authorization: Bearer KEY'", code="invalid_api_key"
            )
            answer.headers["www-authenticate"] = "Bearer"
        elif scope["method"] not in READS and not _is_of_our_page(headers):
            message = "only the console's own page may do this; a page of another origin asked"
            answer = refusal(403, message, code="origin_not_allowed")
        await answer(scope, receive, send_with_headers)

    def _knows(self, host: str) -> bool:
        if self._names is None:
            return True
        parts = HOST.fullmatch(host)
        if parts is None:
            return False
        name = (parts["address"] or parts["name"]).lower()
        return name in self._names or is_loopback(name)

    def _holds_key(self, authorization: str) -> bool:
        if self._key_sha256 is None:
            return True
        scheme, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode("latin-1", "replace")).hexdigest()
        return hmac.compare_digest(digest, self._key_sha256) and scheme.lower() == "bearer"


def may_change(fleet: Fleet) -> bool:
    """Return whether whoever passed the guard may change anything, and not only read.

    With an admin key they have shown it. Without one only this machine is let in, and may change things as long as
    the gateway too is open to everybody on it.
    """
    return fleet.admin.key_sha256 is not None or not fleet.keys


def refusal(status: int, message: str, *, code: str) -> Response:
    """Return an error in OpenAI's shape."""
    return Response(error_body(status, message, code=code), status, media_type="application/json")


def require_change(request: Request, fleet: Fleet) -> Response | None:
    """Return what to answer where this request may not change anything, or None where it may."""
    if may_change(fleet):
        return None
    message = f"{request.url.path[:200]} needs an admin key, since the fleet has [[keys]]: set [admin] key_sha256"
    return refusal(403, message, code="read_only")


def _is_of_our_page(headers: Headers) -> bool:
    """Return whether no foreign page is behind this: programs send none of these headers, browsers do."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return False
    return headers.get("sec-fetch-site", "none") in OUR_OWN_SITE
