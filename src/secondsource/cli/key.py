"""`secondsource key new`: mint a key for a tenant and a lane, and show it once."""

import argparse
import hashlib
import json
import secrets
from pathlib import Path

from secondsource.core.errors import InputError
from secondsource.core.fleet_file import load_lanes
from secondsource.core.fleet_values import NAME, TENANT
from secondsource.core.rules import Refusal, Rule
from secondsource.core.strict_toml import suggestion

TOKEN_PREFIX = "sk-ss-"  # noqa: S105 -- tells what leaked, to a person and to secret scanners
TOKEN_BYTES = 32


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb and its one action."""
    parser = subparsers.add_parser("key", help="mint a key for a tenant and a lane")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser(
        "new",
        help="mint a key, show it once and print the table to paste",
        description="Mint a key. It is shown once and kept nowhere: the fleet file holds only its SHA-256.",
    )
    new.add_argument("--tenant", required=True, help="who is charged for what the key is used for")
    new.add_argument("--lane", required=True, help="the class of traffic that the key's requests belong to")
    new.add_argument("--fleet", type=Path, metavar="FLEET.toml", help="check that this file has the lane")
    new.add_argument("--json", action="store_true", help="print token, sha256, tenant, lane, table as JSON")
    new.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Mint a key and print it; `InputError` for a name that no fleet file accepts or a lane it lacks."""
    _require("--tenant", TENANT, arguments.tenant)
    _require("--lane", NAME, arguments.lane)
    if arguments.fleet is not None:
        _require_lane(arguments.fleet, arguments.lane)
    token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    sha256 = hashlib.sha256(token.encode("ascii")).hexdigest()
    table = key_table(sha256, arguments.tenant, arguments.lane)
    if arguments.json:
        shown = {"token": token, "sha256": sha256, "tenant": arguments.tenant, "lane": arguments.lane, "table": table}
        print(json.dumps(shown))
    else:
        # Plain print and no table drawing: both parts are there to be copied.
        print(f"The key, shown this once and kept nowhere; hand it to {arguments.tenant}:\n\n{token}\n")
        print(f"Paste this into the fleet file and start the gateway again:\n\n{table}", end="")
    return 0


def key_table(sha256: str, tenant: str, lane: str) -> str:
    """Return a key's `[[keys]]` table as TOML; the names must keep the fleet file's rules, so need no escapes."""
    return f'[[keys]]\nsha256 = "{sha256}"\ntenant = "{tenant}"\nlane = "{lane}"\n'


def _require(flag: str, rule: Rule[str], value: str) -> None:
    accepted = rule.accept(value)
    if isinstance(accepted, Refusal):
        raise InputError(f"{flag}: {accepted.message}")


def _require_lane(path: Path, lane: str) -> None:
    lanes = load_lanes(path)
    if lane not in lanes:
        raise InputError(
            f'{path}: no lane "{lane}"; {suggestion(lane, lanes)}, or add [[lanes]] with name = "{lane}" first'
        )
