"""The words of `secondsource up`."""

import json
import shlex
from pathlib import Path

import msgspec

from secondsource.cli.up_text import ServedAt, SourceLine, curl_line, source_table, welcome
from secondsource.core.fleet import Continuation, Fleet, Key, Lane, Pool, Supplier

POOL = Pool(
    name="azure-h100",
    supplier="azure",
    chip="h100-sxm",
    model="it's a model",
    upstream_model="x",
    replicas=("http://10.0.0.1:8000",),
    continuation=Continuation.PREFILL,
)
OPEN = Fleet(suppliers=(Supplier(name="azure"),), pools=(POOL,))
KEYED = msgspec.structs.replace(
    OPEN, lanes=(Lane(name="paid"),), keys=(Key(sha256="0" * 64, tenant="acme", lane="paid"),)
)
SERVED = ServedAt(gateway_url="http://127.0.0.1:8080", admin_url="http://127.0.0.1:8081")
SOURCES = [SourceLine(pool=POOL, replica="http://10.0.0.1:8000", state="serves")]


def test_the_curl_is_one_line_of_shell_that_asks_the_first_model() -> None:
    line = curl_line(OPEN, SERVED.gateway_url)
    assert "\n" not in line
    words = shlex.split(line)
    assert words[:2] == ["curl", "http://127.0.0.1:8080/v1/chat/completions"]
    body = json.loads(words[words.index("-d") + 1])
    assert body["model"] == "it's a model"
    assert body["messages"][0]["role"] == "user"
    assert not any("Authorization" in word for word in words)


def test_with_keys_the_curl_has_a_place_for_one() -> None:
    assert curl_line(KEYED, SERVED.gateway_url).endswith('-H "Authorization: Bearer $SECONDSOURCE_KEY"')


def test_the_welcome_says_all_that_a_person_needs() -> None:
    text = welcome(OPEN, SERVED, SOURCES, small_model=False)
    assert curl_line(OPEN, SERVED.gateway_url) in text.splitlines()
    assert "http://127.0.0.1:8081/console" in text
    assert str(Path(".secondsource").resolve() / "ledger.sqlite3") in text
    assert "No keys are set" in text
    assert "loopback only" in text
    assert "badly" not in text


def test_the_small_model_is_called_what_it_is() -> None:
    text = welcome(OPEN, SERVED, SOURCES, small_model=True)
    assert "fast and badly" in text
    assert "--model PATH.gguf" in text


def test_with_keys_it_does_not_say_that_it_is_open() -> None:
    text = welcome(KEYED, SERVED, SOURCES, small_model=False)
    assert "No keys" not in text
    assert "acme" in text


def test_another_state_directory_is_named_in_the_bill_command() -> None:
    elsewhere = msgspec.structs.replace(OPEN, state_dir="/var/lib/my state")
    assert "secondsource bill --state-dir '/var/lib/my state'" in welcome(elsewhere, SERVED, SOURCES, small_model=False)


def test_sources_are_aligned_columns() -> None:
    head, row = source_table(SOURCES)
    assert head.index("SUPPLIER") == row.index("azure", 1)
    assert row.split() == ["azure-h100", "azure", "h100-sxm", "http://10.0.0.1:8000", "by", "text", "serves"]
