"""docs/fleet-file.md against the reader: the example serves, and every key and default is told as it is."""

import re
from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet
from secondsource.core.fleet_file import parse_fleet

REFERENCE = (Path(__file__).parents[2] / "docs" / "fleet-file.md").read_text("utf-8")
SECTION = re.compile(r"^### `\[+(\w+)[^`]*`.*?(?=^#|\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| .* \| .* \| (.*) \| (.*) \|$", re.MULTILINE)
HEADERS = {
    "gateway": "[gateway]",
    "admin": "[admin]",
    "timeouts": "[timeouts]",
    "limits": "[limits]",
    "images": "[images]",
    "logging": "[logging]",
    "tracing": "[tracing]",
    "suppliers": "[suppliers.s]",
    "pools": "[[pools]]",
    "lanes": "[[lanes]]",
    "tenants": "[tenants.t]",
    "keys": "[[keys]]",
}


def sections() -> dict[str, dict[str, tuple[str, str]]]:
    """Return default and enforcement of each key of each section of the reference."""
    return {
        found[1]: {row[1]: (row[2], row[3]) for row in ROW.finditer(found[0])} for found in SECTION.finditer(REFERENCE)
    }


def complaint(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_fleet(text, "f")
    return str(caught.value)


def test_the_example_is_a_fleet() -> None:
    [example] = re.findall(r"```toml\n(.*?)```", REFERENCE, re.DOTALL)
    fleet = parse_fleet(example, "docs/fleet-file.md")
    assert [pool.name for pool in fleet.pools] == ["azure-h100", "gcp-v6e", "hosted"]
    assert fleet.pools[0].price.nano_usd_per_replica_hour == 55_840_000_000
    assert fleet.pools[2].replicas == ("https://api.example.com/openai",)


def test_the_reference_has_every_key_that_the_reader_knows_and_no_other() -> None:
    told = sections()
    assert set(told) == set(HEADERS)
    for section, header in HEADERS.items():
        known = re.search(r"unknown key; known here: (.+)", complaint(f"{header}\nqqqqqqqq = 1"))
        assert known, section
        assert set(known[1].split(", ")) == set(told[section]), section


def test_a_key_is_told_as_enforced_if_it_is() -> None:
    for section, keys in sections().items():
        for key, (_, enforced) in keys.items():
            said = complaint(f"{HEADERS[section]}\n{key} = 2")
            refused = f"{key}: not enforced yet" in said or f"{key}: more than 1 is not enforced yet" in said
            assert refused == ("*no*" in enforced), f"{section}.{key}"


def test_the_defaults_are_told_as_they_are() -> None:
    default, told = Fleet(suppliers=(), pools=()), sections()
    records = {
        "gateway": default.gateway,
        "admin": default.admin,
        "timeouts": default.timeouts,
        "limits": default.limits,
        "logging": default.logging,
        "tracing": default.tracing,
    }
    for section, record in records.items():
        for field in record.__struct_fields__:
            shown = told[section][field][0].split("`")
            value = getattr(record, field)
            quoted = f'"{value}"' if isinstance(value, str) else str(value)
            assert (shown[1] if len(shown) > 1 else "none") == (quoted if value is not None else "none"), field
