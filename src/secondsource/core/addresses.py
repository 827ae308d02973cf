"""Hosts to listen on and base URLs of replicas: what is accepted, and the one form each is kept in."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from secondsource.core.rules import Refusal, describe

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_host(host: str) -> bool:
    """Return whether `host` is an IP address, IPv6 without brackets, or a host name in ASCII."""
    if _is_address(host):
        return True
    labels = host.split(".")
    return len(host) <= 253 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a listener on `host`."""
    if _is_address(host):
        return ip_address(host).is_loopback
    return host.lower() == "localhost"


def is_every_interface(host: str) -> bool:
    """Return whether a listener on `host` takes connections on every address of the machine."""
    return _is_address(host) and ip_address(host).is_unspecified


def host_and_port(base_url: str) -> tuple[str, int]:
    """Return where a base URL kept by `replica_base_url` connects to."""
    parts = urlsplit(base_url)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def replica_base_url(value: object) -> str | Refusal:
    """Return a replica's base URL in the form it is kept in, or why it is refused.

    Kept without a trailing slash, a trailing `/v1` or a default port, scheme and host in lower case. A wrong URL
    is never repeated in the refusal: it may hold a password.
    """
    expected = 'expected a URL like "http://10.0.0.5:8000" or "https://api.example.com"'
    if not isinstance(value, str):
        return Refusal(f"{expected}, got {describe(value, shown=False)}")
    if not value.isascii() or not value.isprintable() or " " in value:
        return Refusal(f"{expected}, got one with a space or a character outside ASCII")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:  # its text may quote a part of the URL
        return Refusal(f"{expected}, got one whose host or port cannot be read")
    fault = _url_fault(parts)
    if fault:
        return Refusal(f"{expected}, got one {fault}")
    host = parts.hostname or ""
    shown_host = f"[{ip_address(host)}]" if ":" in host else host
    shown_port = "" if port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{port}"
    return f"{parts.scheme}://{shown_host}{shown_port}{_kept_path(parts.path)}"


def _url_fault(parts: SplitResult) -> str:
    """Return what is wrong with a URL, worded to follow "got one", or nothing."""
    if parts.scheme not in _DEFAULT_PORTS:
        return "that does not begin with http:// or https://"
    if "@" in parts.netloc:
        return "with credentials; take them out and name an environment variable in api_key_env"
    if not is_host(parts.hostname or "") or parts.port == 0:
        return "without a host that can be asked"
    if parts.query or parts.fragment:
        return "with a query or a fragment; give the base URL alone"
    path = _kept_path(parts.path)
    if "v1" in path.split("/") or not _PATH.fullmatch(path):  # an endpoint's whole URL, for one
        return "whose path is no base; leave out what follows /v1"
    return ""


def _kept_path(path: str) -> str:
    return path.rstrip("/").removesuffix("/v1").rstrip("/")


def _is_address(host: str) -> bool:
    try:
        return "%" not in str(ip_address(host))
    except ValueError:
        return False
