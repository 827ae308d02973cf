"""Where `secondsource top` reads from: a gateway's admin listener, over HTTP."""

import http.client
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from secondsource.console.answers import Now
from secondsource.core.errors import InputError

PATH = "/console/api/now"
WITHIN_S = 10.0
LONGEST_LINE = 4 * 1024 * 1024


class _Refusal(msgspec.Struct):
    message: str = ""


class _Refused(msgspec.Struct):
    error: _Refusal


class Source:
    """One admin listener."""

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"--url {url}: expected the admin listener's address, such as http://127.0.0.1:8081")
        self._url = url
        self._host, self._port, self._secure = parts.hostname, parts.port, parts.scheme == "https"
        self._headers = {"accept": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})

    def once(self) -> bytes:
        """Return the page now as JSON; raises InputError where that is not to be had."""
        connection, answer = self._ask(PATH)
        try:
            return answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def events(self) -> Iterator[bytes]:
        """Yield the page each time it is told; raises InputError when the connection is lost."""
        connection, answer = self._ask(f"{PATH}/events")
        try:
            while line := answer.readline(LONGEST_LINE):
                if line.startswith(b"data:"):
                    yield line.removeprefix(b"data:").strip()
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from error
        finally:
            connection.close()

    def _ask(self, path: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection()
        try:
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._lost(error) from error
        if answer.status != http.client.OK:
            said = answer.read(65536)
            connection.close()
            raise InputError(f"{self._url}: {_reason(answer.status, said)}")
        return connection, answer

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            tls = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=WITHIN_S, context=tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=WITHIN_S)

    def _lost(self, error: Exception) -> InputError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return InputError(f"{self._url}: no gateway answers ({reason}); is `secondsource up` running there?")


def read_now(data: bytes) -> Now:
    """Return the page as a record; raises InputError for what another version says."""
    try:
        return msgspec.json.decode(data, type=Now)
    except msgspec.DecodeError as error:
        raise InputError(f"the gateway is of another version than this command: {error}") from None


def _reason(status: int, said: bytes) -> str:
    try:
        return msgspec.json.decode(said, type=_Refused).error.message
    except msgspec.DecodeError:
        return f"HTTP {status}; is that the admin listener?"
