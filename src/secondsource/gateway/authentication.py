"""Who asks: bearer tokens to tenants and lanes. Only the tokens' hashes are known here."""

import hashlib

import msgspec

from secondsource.core.fleet import Fleet
from secondsource.gateway.client import Request
from secondsource.gateway.wire.request import RequestError
from secondsource.policy.limits import KEY_ID_DIGITS


class Principal(msgspec.Struct, frozen=True):
    """Who asks."""

    tenant: str
    lane: str
    key_id: str
    sha256: str = ""  # of the key; known to its limits alone


NOBODY = Principal(tenant="", lane="", key_id="")


class Authentication:
    """The keys of a fleet; without any, everybody is let in on the first lane."""

    def __init__(self, fleet: Fleet) -> None:
        self._principals = {
            key.sha256: Principal(
                tenant=key.tenant, lane=key.lane, key_id=key.sha256[:KEY_ID_DIGITS], sha256=key.sha256
            )
            for key in fleet.keys
        }
        self._open = Principal(tenant="", lane=fleet.lanes[0].name, key_id="")

    def principal_of(self, request: Request) -> Principal | None:
        """Return who asks, or None without a key that is known."""
        if not self._principals:
            return self._open
        return self._principals.get(hashlib.sha256(_token(request)).hexdigest())

    def require(self, request: Request) -> Principal:
        """Return who asks; raises RequestError (401) without a key that is known."""
        principal = self.principal_of(request)
        if principal is not None:
            return principal
        if not _token(request):
            message = "you did not provide an API key: send it as 'Authorization: Bearer KEY'"
            raise RequestError(message, status=401, code="missing_api_key")
        raise RequestError("incorrect API key provided", status=401, code="invalid_api_key")


def _token(request: Request) -> bytes:
    """Return the bearer token, or b""."""
    scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
