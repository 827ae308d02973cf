"""Fetch SkyPilot's public catalogue, over HTTP or from a directory, and keep it as dated price lists.

A price never looks newer than it is: the date is that of the file's last change, as the HTTP server, the
repository's history or the user says. A file whose date nobody can tell is refused.
"""

import http.client
import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from itertools import groupby
from pathlib import Path

import msgspec

from secondsource.catalog.records import Offer
from secondsource.core.errors import InputError, NoAnswerError
from secondsource.core.money import dollars

SUPPLIERS = ("aws", "azure", "gcp", "lambda", "nebius", "oci")
REPOSITORY = "skypilot-org/skypilot-catalog"
BASE_URL = f"https://raw.githubusercontent.com/{REPOSITORY}/master/catalogs/v8"
HISTORY_URL = f"https://api.github.com/repos/{REPOSITORY}/commits?per_page=1&path=catalogs/v8"
_TIMEOUT_S = 30.0
_LARGEST_BYTES = 256 * 1024 * 1024


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The text of one supplier's file, and the day whose prices it holds."""

    supplier: str
    text: str
    origin: str
    as_of: date


def from_directory(directory: Path, suppliers: tuple[str, ...], as_of: date | None) -> list[Snapshot]:
    """Return the files `<supplier>/vms.csv` of a copy of the catalogue.

    The date is `as_of`, or else that of the last commit that changed the file. A file's own time stamp is not
    used: it says when the copy was made. Raises `InputError` where neither is known, or no file is there.
    """
    snapshots: list[Snapshot] = []
    for supplier in suppliers:
        path = directory / supplier / "vms.csv"
        if not path.is_file():
            continue
        known = as_of or _commit_date(path)
        if known is None:
            raise InputError(
                f"{path}: nothing says which day's prices these are (a file's time is only the copy's);"
                " give --as-of 2026-05-20, or a checkout of the repository"
            )
        snapshots.append(_snapshot(supplier, path.read_bytes(), str(path), known))
    if not snapshots:
        raise InputError(f"{directory}: no <supplier>/vms.csv for {', '.join(suppliers)}; expected SkyPilot's layout")
    return snapshots


def _commit_date(path: Path) -> date | None:
    command = ["git", "-C", str(path.parent), "log", "-1", "--format=%cI", "--", path.name]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    stamp = found.stdout.strip()
    return datetime.fromisoformat(stamp).date() if found.returncode == 0 and stamp else None


def from_network(base_url: str, history_url: str, suppliers: tuple[str, ...]) -> list[Snapshot]:
    """Return the files `<supplier>/vms.csv` under `base_url`.

    The date is the older of the server's `Last-Modified` and of the last commit that `history_url` names for
    the file. Raises `NoAnswerError` where the network has no answer or no date.
    """
    snapshots: list[Snapshot] = []
    for supplier in suppliers:
        url = f"{base_url}/{supplier}/vms.csv"
        content, modified = _get(url)
        committed = _history_date(f"{history_url}/{supplier}/vms.csv")
        dates = [known for known in (modified, committed) if known is not None]
        if not dates:
            raise NoAnswerError(
                f"{url}: neither the server nor the repository's history says of which day these prices are; "
                "download the file and give --from DIR --as-of DATE"
            )
        snapshots.append(_snapshot(supplier, content, url, min(dates)))
    return snapshots


def _get(url: str) -> tuple[bytes, date | None]:
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise InputError(f"{url}: expected an http or https address")
    request = urllib.request.Request(url, headers={"User-Agent": "secondsource"})  # noqa: S310 -- checked above
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 -- checked above
            content: bytes = answer.read(_LARGEST_BYTES)
            stamp = answer.headers.get("Last-Modified")
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(f"{url}: {error}; refresh later, or give --from DIR with a copy") from None
    return content, parsedate_to_datetime(stamp).date() if stamp else None


def _history_date(url: str) -> date | None:
    try:
        content, _ = _get(url)
        return datetime.fromisoformat(json.loads(content)[0]["commit"]["committer"]["date"]).date()
    except (NoAnswerError, ValueError, LookupError, TypeError):
        return None


def _snapshot(supplier: str, content: bytes, origin: str, as_of: date) -> Snapshot:
    try:
        return Snapshot(supplier=supplier, text=content.decode("utf-8-sig"), origin=origin, as_of=as_of)
    except UnicodeDecodeError:
        raise InputError(f"{origin}: not UTF-8 text; expected SkyPilot's vms.csv") from None


def price_list(offers: tuple[Offer, ...]) -> str:
    """Return offers as the TOML of price lists, one list per supplier, day, source and confidence."""

    def common(offer: Offer) -> tuple[str, date, str, str]:
        return offer.supplier, offer.as_of, offer.source, offer.confidence.value

    parts: list[str] = []
    for (supplier, as_of, source, confidence), rows in groupby(sorted(offers, key=common), common):
        parts.append(
            f"[[price_lists]]\nsupplier = {_quoted(supplier)}\nas_of = {as_of}\nsource = {_quoted(source)}\n"
            f"confidence = {_quoted(confidence)}\noffers = [\n{''.join(map(_row, rows))}]\n"
        )
    return "\n".join(parts)


def _row(offer: Offer) -> str:
    keys = [
        f"chip = {_quoted(offer.chip)}",
        f"chips_per_unit = {offer.chips_per_unit}",
        f"usd_per_chip_hour = {dollars(offer.nano_usd_per_chip_hour):f}",
    ]
    keys += [f"term_months = {offer.term_months}"] if offer.term_months else []
    keys += ["spot = true"] if offer.spot else []
    keys += [f"note = {_quoted(offer.note)}"] if offer.note else []
    return f"    {{ {', '.join(keys)}, regions = [{_quoted(offer.region)}] }},\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a TOML basic string: same escapes for printable text
