"""OpenAI's error body."""

import msgspec

TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """Return `{"error": {message, type, param, code}}` with the type that OpenAI gives this status."""
    if status == 429:
        kind = "rate_limit_error"
    elif status >= 500:
        kind = "server_error"
    else:
        kind = TYPES.get(status, "invalid_request_error")
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_event(message: str, *, code: str) -> bytes:
    """Return a stream's explicit error event; no `[DONE]` follows it."""
    return b"data: " + error_body(502, message, code=code) + b"\n\n"
