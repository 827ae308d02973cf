"""Any fleet goes to TOML and back unchanged; any damaged file is an `InputError` that names a line."""

import json
import re
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from secondsource.core.errors import InputError
from secondsource.core.fleet import (
    AdminListener,
    Continuation,
    Fleet,
    Key,
    Lane,
    Limits,
    Listener,
    Pool,
    Price,
    Supplier,
    Timeouts,
)
from secondsource.core.fleet_checks import contradictions
from secondsource.core.fleet_file import parse_fleet
from secondsource.core.money import dollars

names = st.builds("{}{}".format, st.sampled_from("aZ09"), st.text("bY1._-", max_size=12))
models = st.builds("{}{}{}".format, st.sampled_from("aé"), st.text("/:\" \\'#=𝄞", max_size=9), st.sampled_from("]z"))
seconds = st.floats(0.001, 86400)
sizes = st.integers(1024, 2**40)
hashes = st.integers(0, 2**256 - 1).map("{:064x}".format)
inner_hosts = st.sampled_from(["127.0.0.1", "::1", "localhost"])
outer_hosts = st.sampled_from(["10.0.0.9", "0.0.0.0", "gateway"])
nano_usd = st.integers(0, 10**15)
urls = st.builds(
    "{}://{}:{}{}".format,
    st.sampled_from(["http", "https"]),
    st.builds("replica{}".format, st.integers(0, 10**6)) | st.ip_addresses(v=4),
    st.integers(1000, 65535),
    st.sampled_from(["", "/openai", "/a/b"]),
)


@st.composite
def pools(draw: st.DrawFn, supplier: str) -> Pool:
    chips = draw(st.integers(1, 64))
    hourly = Price(nano_usd_per_replica_hour=draw(nano_usd) * chips)
    tokens = st.builds(
        Price,
        nano_usd_per_million_input_tokens=nano_usd,
        nano_usd_per_million_cached_tokens=nano_usd,
        nano_usd_per_million_output_tokens=nano_usd,
    )
    image_steps = st.builds(Price, nano_usd_per_image_step_megapixel=st.integers(1, 10**15))
    return Pool(
        name=draw(names),
        supplier=supplier,
        chip=draw(names),
        model=draw(models),
        upstream_model=draw(models),
        replicas=tuple(draw(st.lists(urls, min_size=1, max_size=3))),
        chips_per_replica=chips,
        price=draw(st.one_of(st.just(hourly), tokens, image_steps)),
        api_key_env=draw(st.none() | st.text("A_", min_size=1, max_size=9)),
        weight=draw(st.floats(0.000001, 1000000)),
        order=draw(st.integers(0, 9)),
        continuation=draw(st.sampled_from(Continuation)),
        context_tokens=draw(st.none() | st.integers(1, 10**9)),
        max_concurrency=draw(st.none() | st.integers(1, 10**6)),
        require_parity=draw(st.booleans()),
        image_steps=draw(st.integers(1, 1000)),
        image_size=draw(st.sampled_from(["1024x1024", "1x99999"])),
    )


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    suppliers = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    lanes = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    tenants = st.builds("{}{}".format, st.sampled_from("aZ09"), st.text("bY1._@:/+-", max_size=12))
    key = st.builds(Key, sha256=hashes, tenant=tenants, lane=st.sampled_from(lanes))
    keys = draw(st.lists(key, max_size=3))
    admin_hash = draw(st.none() | hashes)
    served = draw(st.lists(st.sampled_from(suppliers).flatmap(pools), min_size=1, max_size=3))
    fleet = Fleet(
        image_model=draw(st.none() | st.sampled_from([pool.model for pool in served])),
        gateway=Listener(
            host=draw(inner_hosts | outer_hosts if keys else inner_hosts), port=draw(st.integers(0, 65535))
        ),
        admin=AdminListener(
            host=draw(inner_hosts | outer_hosts if admin_hash else inner_hosts),
            port=draw(st.integers(0, 65535)),
            key_sha256=admin_hash,
        ),
        state_dir=draw(st.text("aé/\"\\'", min_size=1, max_size=9)),
        timeouts=draw(
            st.builds(
                Timeouts, connect=seconds, first_token=seconds, between_tokens=seconds, answer=seconds, total=seconds
            )
        ),
        limits=draw(
            st.builds(Limits, request_body=sizes, request_headers=sizes, response_body=sizes, event=sizes, kept=sizes)
        ),
        suppliers=tuple(Supplier(name=name) for name in suppliers),
        pools=tuple(served),
        lanes=tuple(Lane(name=name) for name in lanes),
        keys=tuple(keys),
    )
    assume(not contradictions(fleet))
    return fleet


def rendered(fleet: Fleet) -> str:
    """Return `fleet` as TOML, with everything said and nothing left to a default."""
    return "\n".join(_lines(fleet)) + "\n"


def _lines(fleet: Fleet) -> Iterator[str]:
    yield "[gateway]"
    yield from _pairs(host=fleet.gateway.host, port=fleet.gateway.port, workers=1, state_dir=fleet.state_dir)
    yield from _pairs(image_model=fleet.image_model)
    for name in ("admin", "timeouts", "limits"):
        yield f"[{name}]"
        yield from _pairs(**msgspec.structs.asdict(getattr(fleet, name)))
    for supplier in fleet.suppliers:
        yield f"[suppliers.{json.dumps(supplier.name)}]"
    for pool in fleet.pools:
        yield "[[pools]]"
        fields = msgspec.structs.asdict(pool)
        fields |= _prices(fields.pop("price"), pool.chips_per_replica)
        yield from _pairs(**fields)
    for lane in fleet.lanes:  # what lanes promise and keys may use is refused still
        yield "[[lanes]]"
        yield from _pairs(name=lane.name)
    for key in fleet.keys:
        yield "[[keys]]"
        yield from _pairs(sha256=key.sha256, tenant=key.tenant, lane=key.lane)


def _prices(price: Price, chips: int) -> dict[str, object]:
    if price.nano_usd_per_replica_hour:
        return {"usd_per_chip_hour": dollars(price.nano_usd_per_replica_hour // chips)}
    if price.nano_usd_per_image_step_megapixel:
        return {"usd_per_image_step_megapixel": dollars(price.nano_usd_per_image_step_megapixel)}
    return {
        "usd_per_million_input_tokens": dollars(price.nano_usd_per_million_input_tokens),
        "usd_per_million_cached_tokens": dollars(price.nano_usd_per_million_cached_tokens),
        "usd_per_million_output_tokens": dollars(price.nano_usd_per_million_output_tokens),
    }


def _pairs(**pairs: object) -> Iterator[str]:
    for key, value in pairs.items():
        if value is None:
            continue
        if isinstance(value, str | tuple | bool):
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"  # JSON's strings are TOML's
        elif isinstance(value, int | float):
            yield f"{key} = {value!r}"
        else:
            yield f"{key} = {value:f}"


@settings(deadline=None)
@given(fleets())
def test_a_fleet_written_as_toml_reads_back_the_same(fleet: Fleet) -> None:
    assert parse_fleet(rendered(fleet), "f") == fleet


PIECES = [*"[]{}=.,\"'#\\\n\r\x00\x7f 0-_e", '"""', "'''", "nan", "1e9", "true", "[[pools]]", "[a]", "é", "𝄞", "\u2028"]
ALL_NAMED = re.compile(r"(f:[1-9][0-9]*: [^\n]+(\n|\Z))*")


@st.composite
def damaged(draw: st.DrawFn) -> str:
    text = rendered(draw(fleets()))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        piece = draw(st.sampled_from(PIECES) | st.text(max_size=4) | st.just(text[start:end] * 2))
        text = text[:start] + piece + text[end:]
    return text


def only_named_faults(text: str) -> None:
    said = ""
    try:
        parse_fleet(text, "f")
    except InputError as error:
        said = str(error)
    assert ALL_NAMED.fullmatch(said), said
    assert all(int(line) <= text.count("\n") + 1 for line in re.findall(r"^f:(\d+)", said, re.MULTILINE))


@settings(deadline=None)
@given(damaged())
def test_a_damaged_file_is_at_worst_an_input_error_that_names_lines(text: str) -> None:
    only_named_faults(text)


@settings(deadline=None)
@given(st.text())
@example("a = " + "[" * 3000)
@example("a = " + "{a=" * 3000)
@example("a." * 3000 + "a = 1")
def test_any_text_is_at_worst_an_input_error_that_names_lines(text: str) -> None:
    only_named_faults(text)


@settings(deadline=None)
@given(fleets(), st.data())
def test_an_unknown_key_is_found_on_its_own_line(fleet: Fleet, data: st.DataObject) -> None:
    lines = rendered(fleet).split("\n")
    place = data.draw(st.integers(1, len(lines) - 1))
    text = "\n".join([*lines[:place], "no_such_key = 1", *lines[place:]])
    with pytest.raises(InputError, match=rf"^f:{place + 1}: [^ ]*no_such_key: unknown key; "):
        parse_fleet(text, "f")
