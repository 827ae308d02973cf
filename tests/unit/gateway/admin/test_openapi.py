"""The API's description: it refers to nothing that is missing, and describes what is answered."""

from collections.abc import Iterator
from typing import Any

import msgspec

from secondsource.core.fleet import AdminListener, Fleet, Key, Pool, Supplier
from secondsource.gateway.admin.openapi import describe


def make_fleet(keys: tuple[Key, ...] = (), key_sha256: str | None = None) -> Fleet:
    pool = Pool(name="a", supplier="s", chip="cpu", model="chat", upstream_model="m", replicas=("http://a",))
    listener = AdminListener(host="127.0.0.1", port=8081, key_sha256=key_sha256)
    return Fleet(suppliers=(Supplier(name="s"),), pools=(pool,), keys=keys, admin=listener)


def document(fleet: Fleet) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(describe(fleet, "http://gateway", "http://admin")))


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_points_to_something() -> None:
    described = document(make_fleet())
    found = set(references(described))
    assert len(found) > 20
    for reference in found:
        node: Any = described
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


def test_every_operation_has_a_name_of_its_own_and_errors_in_our_shape() -> None:
    described = document(make_fleet())
    operations = [
        item for path in described["paths"].values() for name, item in path.items() if name in ("get", "post")
    ]
    assert len({operation["operationId"] for operation in operations}) == len(operations) == 19
    for operation in operations:
        assert {"200", "404", "405"} <= operation["responses"].keys()


def test_the_models_of_the_fleet_are_the_ones_that_may_be_asked_for() -> None:
    request = document(make_fleet())["components"]["schemas"]["ChatCompletionRequest"]
    assert request["properties"]["model"]["enum"] == ["chat"]
    assert request["required"] == ["model", "messages"]


def test_keys_are_asked_for_where_they_are_configured() -> None:
    open_fleet = document(make_fleet())
    keyed = document(make_fleet((Key(sha256="0" * 64, tenant="t", lane="default"),), key_sha256="0" * 64))
    for path, method in (("/v1/chat/completions", "post"), ("/v1/models", "get"), ("/metrics", "get")):
        assert open_fleet["paths"][path][method]["security"] == []
        assert keyed["paths"][path][method]["security"] == [{"key": []}]
    assert keyed["paths"]["/ready"]["get"]["security"] == []


def test_each_listener_has_its_own_address() -> None:
    described = document(make_fleet())
    assert described["servers"][0]["url"] == "http://gateway"
    assert described["paths"]["/metrics"]["servers"][0]["url"] == "http://admin"
    assert len(described["paths"]["/health"]["servers"]) == 2
