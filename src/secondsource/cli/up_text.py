"""The words of `secondsource up`, made from what serves. Pure: nothing is printed here."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec

from secondsource.core.fleet import Continuation, Fleet, Pool

_DEFAULT_STATE_DIR = ".secondsource"
_QUESTION = "What is a second source, in one sentence?"
_CONTINUED = {
    Continuation.TOKENS: "exactly, by token ids",
    Continuation.PREFILL: "by text",
    Continuation.NONE: "not; it is made afresh elsewhere",
}


class SourceLine(msgspec.Struct, frozen=True, kw_only=True):
    """One replica as `up` shows it; `state` is "serves" or what is wrong."""

    pool: Pool
    replica: str
    state: str


class ServedAt(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses in use, known once the listeners are bound."""

    gateway_url: str
    admin_url: str


def curl_line(fleet: Fleet, gateway_url: str) -> str:
    """Return one line of shell that asks the first model; with keys set, the key is a variable to fill in."""
    body = {"model": fleet.models[0], "messages": [{"role": "user", "content": _QUESTION}]}
    words = ["curl", f"{gateway_url}/v1/chat/completions", "-H", "Content-Type: application/json"]
    line = shlex.join([*words, "-d", json.dumps(body)])
    return f'{line} -H "Authorization: Bearer $SECONDSOURCE_KEY"' if fleet.keys else line


def welcome(fleet: Fleet, served: ServedAt, sources: Sequence[SourceLine], *, small_model: bool) -> str:
    """Return all that a person needs once the gateway serves."""
    state_dir = Path(fleet.state_dir)
    bill = "secondsource bill"
    if fleet.state_dir != _DEFAULT_STATE_DIR:
        bill = shlex.join(["secondsource", "bill", "--state-dir", fleet.state_dir])
    lines = [f"Serving {', '.join(fleet.models)} at {served.gateway_url}/v1 (OpenAI's API). Try it:", ""]
    lines += [curl_line(fleet, served.gateway_url), "", *source_table(sources), ""]
    lines += [f"Console  {served.admin_url}/console", f"Ledger   {state_dir.resolve() / 'ledger.sqlite3'}  ({bill})"]
    lines += ["", access_sentence(fleet)]
    if fleet.logging.prompts:
        log = state_dir.resolve() / ("requests.jsonl" if fleet.workers == 1 else "requests.w*.jsonl")
        lines.append(f"PROMPTS ARE LOGGED: what every client asks is written, word for word, to {log} ([logging]).")
    if small_model:
        lines.append(
            "The model is very small: it answers fast and badly. For a better one: "
            "secondsource up --model PATH.gguf, or a fleet file (docs/fleet-file.md)."
        )
    lines.append("Ctrl-C stops.")
    return "\n".join(lines)


def access_sentence(fleet: Fleet) -> str:
    """Return who may use the gateway."""
    if fleet.keys:
        tenants = ", ".join(dict.fromkeys(key.tenant for key in fleet.keys))
        return f"Every request needs a key (put yours into SECONDSOURCE_KEY). Tenants: {tenants}."
    return (
        "No keys are set: the gateway is open to every program on this machine and listens on loopback only. "
        "To set keys: secondsource key new --tenant acme --lane paid."
    )


def source_table(sources: Sequence[SourceLine]) -> list[str]:
    """Return the sources as lines of aligned columns, to be printed as they are."""
    rows = [("POOL", "SUPPLIER", "CHIP", "REPLICA", "A CUT ANSWER IS CONTINUED", "STATE")]
    for source in sources:
        pool = source.pool
        continued = _CONTINUED[pool.continuation]
        rows.append((pool.name, pool.supplier, pool.chip, source.replica, continued, source.state))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
