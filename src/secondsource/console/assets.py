"""The parts of the console's page as they are in the package; each is read once, when it is first asked for."""

import hashlib
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}


class _Asset(msgspec.Struct, frozen=True):
    data: bytes
    headers: dict[str, str]


class Assets:
    """Every file of the page."""

    def __init__(self) -> None:
        directory = files("secondsource.console").joinpath("static")
        self._files = {file.name: file for file in directory.iterdir() if file.name[file.name.rfind(".") :] in TYPES}
        self._read: dict[str, _Asset] = {}

    def answer(self, name: str, request: Request) -> Response | None:
        """Return a file, or 304 for a browser that has it already; None of a name that there is not."""
        if name not in self._files:
            return None
        asset = self._read.get(name)
        if asset is None:
            asset = self._read[name] = _load(self._files[name].read_bytes(), TYPES[name[name.rfind(".") :]])
        if request.headers.get("if-none-match") == asset.headers["etag"]:
            return Response(status_code=304, headers=asset.headers)
        return Response(asset.data, headers=asset.headers)


def _load(data: bytes, kind: str) -> _Asset:
    headers = {
        "content-type": f"{kind}; charset=utf-8",
        "content-security-policy": POLICY,
        "cache-control": "no-cache",  # asked about each time, and sent when it is another
        "etag": f'"{hashlib.sha256(data).hexdigest()[:24]}"',
    }
    return _Asset(data, headers)
