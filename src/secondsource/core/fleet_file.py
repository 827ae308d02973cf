"""The fleet file: strict TOML in, frozen `Fleet` out.

Everything wrong with a file is reported at once, each fault by file, line and key. Secrets are not in the file:
`load_secrets` takes them from the environment that it is given. The reference is docs/fleet-file.md.
"""

from collections.abc import Mapping
from pathlib import Path

from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet
from secondsource.core.fleet_checks import contradictions
from secondsource.core.fleet_tables import read_fleet, read_lanes
from secondsource.core.strict_toml import Document


def load_fleet(path: Path) -> Fleet:
    """Return the fleet that the file at `path` describes; every fault is in one `InputError`, one a line."""
    return parse_fleet(_read(path), str(path))


def parse_fleet(text: str, origin: str) -> Fleet:
    """Return the fleet that `text` describes; `origin` names it in the `InputError` that holds every fault."""
    document = Document(text, origin)
    fleet = read_fleet(document.root)
    for found in contradictions(fleet):
        document.report(found.path, found.message)
    document.finish()
    return fleet


def load_lanes(path: Path) -> tuple[str, ...]:
    """Return the names of a file's lanes, whatever else may still be wrong with the file.

    A key has to be minted before a file that needs one is right. Text that is not TOML is an `InputError`.
    """
    return tuple(lane.name for lane in read_lanes(Document(_read(path), str(path)).root))


def load_secrets(fleet: Fleet, environ: Mapping[str, str]) -> dict[str, str]:
    """Return each pool's bearer token by pool name, for the pools that have one.

    Every variable that is missing, empty or no bearer token is in one `InputError`, which never shows a value.
    """
    secrets: dict[str, str] = {}
    faults: list[str] = []
    for pool in fleet.pools:
        if pool.api_key_env is None:
            continue
        secrets[pool.name] = environ.get(pool.api_key_env, "")
        if fault := _secret_fault(secrets[pool.name]):
            faults.append(f'pool "{pool.name}": environment variable {pool.api_key_env} {fault}')
    if faults:
        raise InputError("\n".join(faults))
    return secrets


def _secret_fault(secret: str) -> str:
    if not secret:
        return "is not set, or empty; set it to the bearer token of the pool's replicas"
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        return "holds a space, a line break or a character outside ASCII; set it to the bare bearer token"
    return ""


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; name a fleet file") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
