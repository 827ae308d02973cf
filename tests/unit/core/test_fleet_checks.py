"""A fleet that was changed in code is held to the rules of a fleet that was read."""

import msgspec
import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import AdminListener, Fleet, Key, Listener, Pool, Supplier
from secondsource.core.fleet_checks import contradictions, require_consistent

POOL = Pool(name="a", supplier="s", chip="c", model="m", upstream_model="m", replicas=("http://10.0.0.1:8000",))
FLEET = Fleet(suppliers=(Supplier(name="s"),), pools=(POOL,))
KEY = Key(sha256="0" * 64, tenant="t", lane="default")


def test_a_sound_fleet_passes() -> None:
    require_consistent(FLEET, "here")


def test_a_flag_that_opens_the_listener_is_caught() -> None:
    opened = msgspec.structs.replace(FLEET, gateway=Listener(host="0.0.0.0", port=8080))
    with pytest.raises(InputError, match=r"^--host: gateway\.host: without \[\[keys\]\]"):
        require_consistent(opened, "--host")
    require_consistent(msgspec.structs.replace(opened, keys=(KEY,)), "--host")


def test_an_admin_listener_beyond_loopback_needs_a_key() -> None:
    opened = msgspec.structs.replace(FLEET, admin=AdminListener(host="10.0.0.1", port=8081))
    assert [each.path for each in contradictions(opened)] == [("admin", "host")]
    keyed = AdminListener(host="10.0.0.1", port=8081, key_sha256="1" * 64)
    assert contradictions(msgspec.structs.replace(FLEET, admin=keyed)) == []


def test_any_free_port_twice_is_no_clash() -> None:
    anywhere = msgspec.structs.replace(
        FLEET, gateway=Listener(host="127.0.0.1", port=0), admin=AdminListener(host="127.0.0.1", port=0)
    )
    assert contradictions(anywhere) == []


@pytest.mark.parametrize(
    ("host", "url", "ours"),
    [
        ("127.0.0.1", "http://localhost:8080", True),
        ("127.0.0.1", "http://127.0.0.1:8081", True),
        ("0.0.0.0", "http://127.0.0.1:8080", True),
        ("gateway.internal", "http://gateway.internal:8080", True),
        ("127.0.0.1", "http://127.0.0.1:8082", False),
        ("127.0.0.1", "http://10.0.0.1:8080", False),
        ("10.0.0.2", "http://127.0.0.1:8080", False),
    ],
)
def test_the_gateway_is_no_replica_of_its_own(host: str, url: str, ours: bool) -> None:
    fleet = msgspec.structs.replace(
        FLEET,
        gateway=Listener(host=host, port=8080),
        keys=(KEY,),
        pools=(msgspec.structs.replace(POOL, replicas=(url,)),),
    )
    assert [each.path for each in contradictions(fleet)] == ([("pools", 0, "replicas", 0)] if ours else [])


def test_hashes_of_keys_are_not_shown() -> None:
    twice = msgspec.structs.replace(FLEET, keys=(KEY, KEY))
    [found] = contradictions(twice)
    assert found.path == ("keys", 1, "sha256")
    assert KEY.sha256 not in found.message
