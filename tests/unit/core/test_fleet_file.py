"""Fleet files, right and wrong: the records that come out, and each fault by line and key."""

import re
from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import AdminListener, Continuation, Key, Lane, Pool, Price, Supplier
from secondsource.core.fleet_file import load_fleet, load_lanes, load_secrets, parse_fleet

HASH = "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
SMALL = """\
[suppliers.azure]
[[pools]]
name = "a"
supplier = "azure"
chip = "h100-sxm"
model = "chat"
replicas = ["http://10.0.0.1:8000"]
"""  # seven lines: what a test adds begins on line 8
KEY = f'[[keys]]\nsha256 = "{HASH}"\ntenant = "acme"\nlane = "default"'


def faults(text: str) -> dict[str, tuple[int, str]]:
    """Return what is wrong with `text` by key: the line and the message."""
    with pytest.raises(InputError) as caught:
        parse_fleet(text, "fleet.toml")
    found = {}
    for line in str(caught.value).split("\n"):
        match = re.fullmatch(r'fleet\.toml:(\d+): (?:((?:[\w.-]|\[\d+\]|"[^"]*")+): )?(.+)', line)
        assert match, line
        found[match[2] or ""] = (int(match[1]), match[3])
    return found


def test_a_small_file_has_every_default() -> None:
    fleet = parse_fleet(SMALL, "fleet.toml")
    assert fleet.suppliers == (Supplier(name="azure"),)
    assert fleet.pools == (
        Pool(
            name="a",
            supplier="azure",
            chip="h100-sxm",
            model="chat",
            upstream_model="chat",
            replicas=("http://10.0.0.1:8000",),
        ),
    )
    assert fleet.lanes == (Lane(name="default"),)
    assert fleet.keys == ()
    assert fleet.admin == AdminListener(host="127.0.0.1", port=8081, key_sha256=None)
    assert (fleet.gateway.host, fleet.gateway.port, fleet.state_dir) == ("127.0.0.1", 8080, ".secondsource")


def test_every_enforced_key_is_read() -> None:
    fleet = parse_fleet(
        f"""
        [gateway]
        host = "0.0.0.0"
        port = 1
        workers = 1
        pump = false
        state_dir = "/s"
        [admin]
        host = "::"
        port = 2
        key_sha256 = "{HASH}"
        [timeouts]
        connect = 1
        first_token = 2.5
        answer = 2.75
        between_tokens = 3.0
        total = 4.0
        [limits]
        request_body = 1024
        request_headers = 1025
        response_body = 1026
        event = 1027
        kept = 1028
        [suppliers.s]
        [[pools]]
        name = "p"
        supplier = "s"
        chip = "c"
        chips_per_replica = 8
        usd_per_chip_hour = 6.98
        model = "m"
        upstream_model = "u/m:8b"
        replicas = ["http://h:1/v1/"]
        api_key_env = "KEY"
        weight = 3
        order = 2
        continuation = "tokens"
        context_tokens = 5
        max_concurrency = 6
        [[lanes]]
        name = "paid"
        [[keys]]
        sha256 = "{"0" * 64}"
        tenant = "team@acme"
        lane = "paid"
        """,
        "fleet.toml",
    )
    assert (fleet.gateway.host, fleet.gateway.port, fleet.state_dir) == ("0.0.0.0", 1, "/s")
    assert not fleet.pump
    assert fleet.admin == AdminListener(host="::", port=2, key_sha256=HASH)
    timeouts = fleet.timeouts
    assert (timeouts.connect, timeouts.first_token, timeouts.between_tokens, timeouts.total) == (1, 2.5, 3, 4)
    assert timeouts.answer == 2.75
    limits = fleet.limits
    assert (limits.request_body, limits.request_headers, limits.response_body) == (1024, 1025, 1026)
    assert (limits.event, limits.kept) == (1027, 1028)
    assert fleet.pools == (
        Pool(
            name="p",
            supplier="s",
            chip="c",
            chips_per_replica=8,
            price=Price(nano_usd_per_replica_hour=55_840_000_000),
            model="m",
            upstream_model="u/m:8b",
            replicas=("http://h:1",),
            api_key_env="KEY",
            weight=3.0,
            order=2,
            continuation=Continuation.TOKENS,
            context_tokens=5,
            max_concurrency=6,
        ),
    )
    assert fleet.keys == (Key(sha256="0" * 64, tenant="team@acme", lane="paid"),)


def test_patience_with_a_whole_answer_follows_that_with_a_first_token() -> None:
    assert parse_fleet(SMALL, "f").timeouts.answer == 120.0
    assert parse_fleet(f"{SMALL}[timeouts]\nfirst_token = 0.5\n", "f").timeouts.answer == 3.0


def test_token_prices_are_read_and_cached_tokens_cost_as_input_unless_said() -> None:
    prices = "usd_per_million_input_tokens = 0.10\nusd_per_million_output_tokens = 0.2\n"
    price = parse_fleet(SMALL + prices, "f").pools[0].price
    assert price == Price(
        nano_usd_per_million_input_tokens=100_000_000,
        nano_usd_per_million_cached_tokens=100_000_000,
        nano_usd_per_million_output_tokens=200_000_000,
    )
    price = parse_fleet(SMALL + prices + "usd_per_million_cached_tokens = 0\n", "f").pools[0].price
    assert price.nano_usd_per_million_cached_tokens == 0


def test_a_price_is_exact_where_a_float_would_not_be() -> None:
    pool = parse_fleet(SMALL + "usd_per_chip_hour = 0.1\nchips_per_replica = 3\n", "f").pools[0]
    assert pool.price.nano_usd_per_replica_hour == 300_000_000
    pool = parse_fleet(SMALL + "usd_per_chip_hour = 0.000_000_000_5\nchips_per_replica = 2\n", "f").pools[0]
    assert pool.price.nano_usd_per_replica_hour == 1


@pytest.mark.parametrize(
    ("line", "addition", "key", "message"),
    [
        (8, 'contination = "none"', "pools[0].contination", 'unknown key; did you mean "continuation"?'),
        (8, "zzz = 1", "pools[0].zzz", "unknown key; known here: "),
        (8, "[gatway]", "gatway", 'did you mean "gateway"?'),
        (9, '[gateway]\nport = "80"', "gateway.port", 'whole number from 0 to 65535, got the text "80"'),
        (9, "[gateway]\nport = true", "gateway.port", "got true"),
        (9, "[gateway]\nport = 80.0", "gateway.port", "got 80.0"),
        (9, "[gateway]\nport = 65536", "gateway.port", "got 65536"),
        (9, "[gateway]\nport = 0x" + "f" * 99, "gateway.port", "got a huge whole number"),
        (9, "[gateway]\nport = 1979-05-27", "gateway.port", "got a date"),
        (9, '[gateway]\nhost = "[::1]"', "gateway.host", "IPv6 without brackets"),
        (1, "[gateway]\nport = 8081", "admin.port", "different ports"),
        (9, '[gateway]\nhost = "0.0.0.0"', "gateway.host", "secondsource key new --tenant acme --lane paid"),
        (9, '[gateway]\nstate_dir = "~/x"', "gateway.state_dir", "not expanded"),
        (9, '[gateway]\nstate_dir = ""', "gateway.state_dir", "a directory"),
        (9, '[admin]\nhost = "10.0.0.1"', "admin.host", "admin.key_sha256"),
        (9, '[admin]\nkey_sha256 = "secret"', "admin.key_sha256", "64 lower-case hex"),
        (9, "[timeouts]\nconnect = 0", "timeouts.connect", "seconds from 0.001 to 86400, got 0"),
        (9, "[timeouts]\nconnect = nan", "timeouts.connect", "got NaN"),
        (9, "[timeouts]\nconnect = inf", "timeouts.connect", "got Infinity"),
        (9, "[timeouts]\nconnect = 1e99999999999999999999", "timeouts.connect", "got NaN"),
        (9, "[timeouts]\nconnect = -1e-9", "timeouts.connect", "got -1E-9"),
        (9, "[limits]\nevent = 0", "limits.event", "bytes from 1024"),
        (9, "[limits]\nevents = 1024", "limits.events", 'did you mean "event"?'),
        (8, "chips_per_replica = 0", "pools[0].chips_per_replica", "from 1"),
        (8, "usd_per_chip_hour = -0.01", "pools[0].usd_per_chip_hour", "from 0"),
        (8, "usd_per_chip_hour = nan", "pools[0].usd_per_chip_hour", "got NaN"),
        (8, "usd_per_chip_hour = 0.0000000001", "pools[0].usd_per_chip_hour", "finer than one nano-dollar"),
        (8, f"usd_per_chip_hour = 1.{'0' * 70}1", "pools[0].usd_per_chip_hour", "finer than one nano-dollar"),
        (2, "usd_per_million_input_tokens = 1", "pools[0].usd_per_million_output_tokens", "missing"),
        (8, "weight = 0", "pools[0].weight", "from 0.000001"),
        (8, "order = -1", "pools[0].order", "from 0"),
        (8, 'continuation = "text"', "pools[0].continuation", '"none" or "prefill" or "tokens", got the text "text"'),
        (8, "continuation = 1", "pools[0].continuation", "got 1"),
        (8, "context_tokens = 0", "pools[0].context_tokens", "got 0"),
        (8, "max_concurrency = 0", "pools[0].max_concurrency", "got 0"),
        (8, 'api_key_env = "sk-secret"', "pools[0].api_key_env", "not shown"),
        (8, 'upstream_model = " m"', "pools[0].upstream_model", "without a space at either end"),
        (8, '[suppliers."my lab"]', 'suppliers."my lab"', "a name of 1 to 64"),
        (9, "[[lanes]]\nname = 3", "lanes[0].name", "got 3"),
        (11, '[[lanes]]\nname = "x"\n[[lanes]]\nname = "x"', "lanes[1].name", '"x" is already in lanes[0]'),
        (11, f'[[keys]]\nsha256 = "{HASH}"\ntenant = "t"\nlane = "paid"', "keys[0].lane", 'no lane "paid"'),
        (9, '[[keys]]\nsha256 = "secret"\ntenant = "t"\nlane = "default"', "keys[0].sha256", "64 lower-case hex"),
        (10, f'[[keys]]\nsha256 = "{HASH}"\ntenant = "a b"\nlane = "default"', "keys[0].tenant", "a name of"),
    ],
)
def test_each_fault_is_named_by_line_and_key(line: int, addition: str, key: str, message: str) -> None:
    found = faults(SMALL + addition)
    assert {key: found[key][0]} == {each: at for each, (at, _) in found.items()} == {key: line}
    assert message in found[key][1]


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        ('chip = "c"', "name", 'missing; add name = "a-name"'),
        ('chip = "c"', "model", "missing"),
        ('chip = "c"', "supplier", "missing"),
        ('chip = "c"', "replicas", "got nothing; write replicas = ["),
        ("replicas = []", "replicas", "got an empty one"),
        ('replicas = "http://h:1"', "replicas", 'got the text "http://h:1"'),
        ('replicas = ["http://h:1", "h:1"]', "replicas[1]", "http:// or https://"),
        ('model = "chat"\nreplicas = ["http://10.0.0.1:8000/v1"]', "replicas[0]", "already pools[0].replicas[0]"),
        ('replicas = ["http://localhost:8080"]', "replicas[0]", "this gateway itself"),
        ('name = "a"', "name", '"a" is already in pools[0]'),
        ('supplier = "azur"', "supplier", 'did you mean "azure"?'),
    ],
)
def test_each_fault_of_a_second_pool_is_named(table: str, key: str, message: str) -> None:
    line, said = faults(f"{SMALL}[[pools]]\n{table}\n")[f"pools[1].{key}"]
    assert line == (8 if "missing" in message or "nothing" in message else 9 + table.count("\n"))
    assert message in said


def test_a_bound_that_leaves_a_worker_without_a_place_is_told_at_its_line() -> None:
    text = f"{SMALL}max_concurrency = 2\n[gateway]\nworkers = 3\n"
    found = faults(text)
    (key,) = found
    assert text.splitlines()[found[key][0] - 1] == "max_concurrency = 2"
    assert found[key][1].startswith("2 is less than gateway.workers = 3")


def test_all_faults_are_reported_in_the_order_of_the_text() -> None:
    found = faults(f'[gateway]\nprt = 1\nhost = 3\n{SMALL}contination = "none"\n[[keys]]\nlane = "paid"\n')
    assert [(key, line) for key, (line, _) in found.items()] == [
        ("gateway.prt", 2),
        ("gateway.host", 3),
        ("pools[0].contination", 11),
        ("keys[0].sha256", 12),
        ("keys[0].tenant", 12),
        ("keys[0].lane", 13),
    ]


def test_an_empty_file_says_what_it_needs() -> None:
    assert faults("") == {"pools": (1, "nothing to serve from; add at least one [[pools]]")}


def test_a_wrong_table_is_one_fault_and_not_many() -> None:
    assert list(faults("suppliers.a = 3\npools = [3]\nlanes = {}\ntimeouts = 3\n")) == [
        "suppliers.a",
        "pools[0]",
        "lanes",
        "timeouts",
    ]


def test_rent_and_token_prices_exclude_each_other() -> None:
    prices = "usd_per_million_input_tokens = 1\nusd_per_million_output_tokens = 1\nusd_per_chip_hour = 0\n"
    assert list(faults(SMALL + prices)) == ["pools[0].usd_per_chip_hour"]


def test_a_tenants_key_is_not_the_admins() -> None:
    found = faults(f'[admin]\nkey_sha256 = "{HASH}"\n{SMALL}{KEY}\n')
    assert list(found) == ["keys[0].sha256"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[gateway]\nport =\n", 2, "not valid TOML at column 7: Invalid value"),
        ("[gateway]\nport = 1 2", 2, "Expected newline"),
        ("[gateway]\nport = [1,\n", 2, "at the end of the file"),
        ("a = " + "[" * 5000, 1, "nested too deeply"),
        ("a = " + "9" * 5000, 1, "not valid TOML: Exceeds"),
    ],
)
def test_what_is_not_toml_is_named_by_line(text: str, line: int, message: str) -> None:
    at, said = faults(text)[""]
    assert at == line
    assert message in said


def test_a_key_given_twice_is_named_with_both_lines() -> None:
    found = faults("[gateway]\nport = 1\n\nport = 2\n[admin]\n[admin]\n")
    assert found == {
        "gateway.port": (4, "given twice, first on line 2; keep one"),
        "admin": (6, "given twice, first on line 5; keep one"),
    }


def test_a_file_is_read_whatever_its_line_ends_and_mark(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load_fleet(path) == parse_fleet(SMALL, "f")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"a = 1\n# \xff\n", "fleet.toml:2: not UTF-8")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "fleet.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        load_fleet(path)


def test_lanes_are_known_while_the_rest_is_still_wrong(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text('[gateway]\nhost = "0.0.0.0"\n[[lanes]]\nname = "paid"\n')
    assert load_lanes(path) == ("paid",)
    path.write_text(SMALL)
    assert load_lanes(path) == ("default",)


def test_secrets_come_from_the_environment_that_is_given() -> None:
    fleet = parse_fleet(f'{SMALL}api_key_env = "AZURE_KEY"\n', "f")
    assert load_secrets(fleet, {"AZURE_KEY": "sk-1", "OTHER": "x"}) == {"a": "sk-1"}
    assert load_secrets(parse_fleet(SMALL, "f"), {}) == {}


@pytest.mark.parametrize("value", [None, "", "hunter2\n", " hunter2", "hunter2\x00", "hunter2\x7f", "huntér2"])
def test_a_secret_that_is_none_is_named_and_not_shown(value: str | None) -> None:
    fleet = parse_fleet(f'{SMALL}api_key_env = "AZURE_KEY"\n', "f")
    with pytest.raises(InputError, match='pool "a": environment variable AZURE_KEY') as caught:
        load_secrets(fleet, {} if value is None else {"AZURE_KEY": value})
    assert "hunt" not in str(caught.value)
