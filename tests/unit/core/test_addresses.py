"""Replica URLs and listener hosts."""

import pytest

from secondsource.core.addresses import host_and_port, is_host, is_loopback, replica_base_url
from secondsource.core.rules import Refusal


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://127.0.0.1:9001", "http://127.0.0.1:9001"),
        ("http://127.0.0.1:9001/", "http://127.0.0.1:9001"),
        ("http://127.0.0.1:9001/v1", "http://127.0.0.1:9001"),
        ("http://127.0.0.1:9001/v1/", "http://127.0.0.1:9001"),
        ("HTTPS://API.Example.COM:443/openai/v1", "https://api.example.com/openai"),
        ("http://host:80", "http://host"),
        ("https://host:80", "https://host:80"),
        ("http://[0:0::1]:9/", "http://[::1]:9"),
        ("http://vllm_1:8000", "http://vllm_1:8000"),
        ("http://host/apiv1", "http://host/apiv1"),
    ],
)
def test_a_url_is_kept_in_one_form(given: str, kept: str) -> None:
    assert replica_base_url(given) == kept
    assert replica_base_url(kept) == kept


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("ftp://host", "http:// or https://"),
        ("host:9001", "http:// or https://"),
        ("", "http:// or https://"),
        ("http://", "without a host"),
        ("http://:9001", "without a host"),
        ("http://host:0", "without a host"),
        ("http://256.1.1.1", "without a host"),
        ("http://-host", "without a host"),
        ("http://host:70000", "cannot be read"),
        ("http://[::1", "cannot be read"),
        ("http://name:hunter2@host", "api_key_env"),
        ("http://hunter2@host", "api_key_env"),
        ("http://name:hunter2/x@host", "cannot be read"),
        ("http://host?key=hunter2", "query"),
        ("http://host/#hunter2", "fragment"),
        ("http://host/v1/chat/completions", "base"),
        ("http://host/a//b", "base"),
        ("http://host/v1/v1", "base"),
        ("http://host/a\nb", "outside ASCII"),
        ("http://host/a b", "outside ASCII"),
        ("http://höst", "outside ASCII"),
        (7, "got 7"),
    ],
)
def test_a_url_that_is_no_base_is_refused_and_never_repeated(given: object, why: str) -> None:
    refusal = replica_base_url(given)
    assert isinstance(refusal, Refusal)
    assert why in refusal.message
    assert "hunter2" not in refusal.message


def test_a_default_port_is_known() -> None:
    assert host_and_port("https://host/x") == ("host", 443)
    assert host_and_port("http://[::1]:9") == ("::1", 9)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"])
def test_loopback_is_known(host: str) -> None:
    assert is_host(host)
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway", "localhost.example.com", "127.0.0.1.nip.io"])
def test_everything_else_is_not_loopback(host: str) -> None:
    assert is_host(host)
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["", "[::1]", "a b", "http://x", "127.0.0.1:80", "999.1.1.1", "a..b", "fe80::1%eth0"])
def test_what_is_no_host_is_known(host: str) -> None:
    assert not is_host(host)
