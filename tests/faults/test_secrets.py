"""No secret leaves: neither a client's key nor a replica's token is in anything that the gateway writes or says."""

import asyncio
import hashlib
import json
import re
from base64 import b64encode
from urllib.parse import quote

import pytest

from tests.faults import raw_client
from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.fault import BEFORE_ANSWER, BREAKS_STREAM, HEALTHY, Fault, Kind
from tests.faults.harness import Gateway, Keys, Pool
from tests.faults.judge import STREAM
from tests.faults.language_model import ask
from tests.faults.pair import until
from tests.faults.raw_talk import post, talk

KEY = "sk-ss-secret-of-a-client-7Hq2"
WRONG_KEY = "sk-ss-secret-that-is-wrong-9Xv4"
TOKEN = "replica-secret-token-5Jw8"
PROMPT = "a confidence nobody else may read"
SECRETS = (KEY, WRONG_KEY, TOKEN)
ADMIN_PATHS = ("/metrics", "/console", "/openapi.json", "/admin/fleet", "/admin/replicas", "/health")
SENT_AWAY = (Kind.THROTTLED, Kind.UNAVAILABLE)  # last: a replica that says so is not asked for a while
SLOW = (Kind.SILENCE, Kind.HEAD_DRIP, Kind.STALL, Kind.PINGS, Kind.ENDLESS_LINE)
FAULTS = (
    *(kind for kind in (*BEFORE_ANSWER, *BREAKS_STREAM) if kind not in SENT_AWAY + SLOW),
    *(Kind.CALLER_ERROR, Kind.STALL, *SENT_AWAY),
)


def forms(secret: str) -> list[bytes]:
    """Return a secret in the forms that a careless program would write it in."""
    whole = b64encode(secret.encode())
    return [secret.encode(), whole, quote(secret).encode(), repr(secret.encode()).encode(), secret.encode("utf-16-le")]


def assert_absent(where: str, data: bytes) -> None:
    for secret in SECRETS:
        for form in forms(secret):
            assert form not in data, f"{where} holds a secret: …{data[max(data.find(form) - 80, 0) :][:60]!r}"
    for secret in SECRETS:  # a hash in full can be looked up in a table of leaked keys
        assert hashlib.sha256(secret.encode()).hexdigest().encode() not in data, f"{where} holds a key's whole hash"


async def make_traffic(gateway: Gateway) -> list[raw_client.Received]:
    """Send good and bad requests, with right and wrong keys, and return what came."""
    right, wrong = {"authorization": f"Bearer {KEY}"}, {"authorization": f"Bearer {WRONG_KEY}"}
    gate = asyncio.Semaphore(2)

    async def one(number: int) -> raw_client.Received:
        async with gate:
            body = ask(f"{PROMPT} {number}", size=60, **(STREAM if number % 2 else {}))
            return await raw_client.post(gateway.url, body, headers=right)

    got = list(await asyncio.gather(*(one(number) for number in range(3 * len(FAULTS)))))
    got.append(await raw_client.post(gateway.url, ask(PROMPT), headers=wrong))
    got.append(await raw_client.post(gateway.url, ask(PROMPT), headers={"authorization": f"Basic {KEY}"}))
    got.append(await raw_client.post(gateway.url, ask(PROMPT) | {"model": "nobody"}, headers=right))
    got.append(await raw_client.post(gateway.url, ask(PROMPT) | {"n": "many"}, headers=right))
    got.append(await raw_client.post(gateway.url, b'{"model": ' + PROMPT.encode(), headers=right))
    got.append(await raw_client.get(gateway.url, f"/v1/models?api_key={KEY}", right))
    got.append(await raw_client.get(gateway.url, f"/v1/nothing?api_key={KEY}", right))
    got.append(await raw_client.post(gateway.url, ask(PROMPT, size=900, **STREAM), headers=right, leave_after=2))
    return got


async def test_secrets_appear_nowhere(
    make_wall: MakeWall, make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WALL_TOKEN", TOKEN)
    first, second = make_wall(), make_wall()
    keys = Keys(hashlib.sha256(KEY.encode()).hexdigest(), "acme")
    pools = (
        Pool(name, (wall,), api_key_env="WALL_TOKEN", order=order)
        for order, (name, wall) in enumerate((("first", first), ("second", second)))
    )
    gateway = make_gateway(*pools, keys=(keys,), timeouts={"first_token": 0.5, "between_tokens": 0.5, "answer": 0.5})
    for kind in FAULTS:  # good answers between, lest the circuit opens
        first.plan(Fault(kind, after_tokens=2), HEALTHY, HEALTHY)
    got = await make_traffic(gateway)
    broken = await talk(gateway, post(b"{}", b"authorization: Bearer " + KEY.encode(), b"bad header"))

    assert {one.headers["authorization"] for one in first.seen} == {f"Bearer {TOKEN}"}, "the token was used"
    assert {one.status for one in got} >= {200, 400, 401, 404}
    for number, received in enumerate(got):
        assert_absent(f"answer {number}", received.body + json.dumps(received.headers).encode())
    assert_absent("the answer to a broken request", broken)
    for path in (*ADMIN_PATHS, *(f"/admin/requests/{one.headers['x-request-id']}" for one in got if one.headers)):
        shown = await raw_client.get(gateway.admin_url, path)
        assert_absent(path, shown.body + json.dumps(shown.headers).encode())

    async def logged() -> bool:
        return (gateway.state_dir / "requests.jsonl").read_bytes().count(b"\n") >= len(got)

    await until(logged, seconds=5)
    lines = [json.loads(line) for line in (gateway.state_dir / "requests.jsonl").read_text().splitlines()]
    outcomes = {one["outcome"] for line in lines for one in line["attempts"]}
    assert len(outcomes) >= 8, f"too few faults struck: {sorted(outcomes)}"
    written = {path: path.read_bytes() for path in gateway.state_dir.rglob("*") if path.is_file()}
    assert {"requests.jsonl", "ledger.sqlite3"} <= {path.name for path in written}
    assert any(path.suffix == ".jsonl" and path.parent.name == "journal" for path in written)
    gateway.stop()
    written |= {path: path.read_bytes() for path in gateway.state_dir.rglob("*") if path.is_file()}
    for path, data in written.items():
        assert_absent(str(path), data)
        assert PROMPT.encode() not in data, f"{path} holds a prompt"
    assert_absent("stdout and stderr", gateway.log.read_bytes())
    assert PROMPT not in gateway.log_text()


async def test_every_request_has_its_line_in_the_log(make_wall: MakeWall, make_gateway: MakeGateway) -> None:
    first, second = make_wall(), make_wall()
    keys = Keys(hashlib.sha256(KEY.encode()).hexdigest(), "acme", "paid")
    gateway = make_gateway(Pool("first", (first,)), Pool("second", (second,), order=1), keys=(keys,))
    right = {"authorization": f"Bearer {KEY}"}
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    first.plan(Fault(Kind.CUT, after_tokens=3))
    streamed = await raw_client.post(gateway.url, ask("streamed", **STREAM), headers={**right, "traceparent": trace})
    whole = await raw_client.post(gateway.url, ask("whole"), headers=right)
    refused = [
        await raw_client.post(gateway.url, ask("no key")),
        await raw_client.post(gateway.url, b"{", headers=right),
        await raw_client.get(gateway.url, "/v1/nothing", right),
    ]
    await talk(gateway, b"not HTTP at all\r\n\r\n")
    first.refuse(), second.refuse()
    nobody = await raw_client.post(gateway.url, ask("nobody", size=10), headers=right)
    path = gateway.state_dir / "requests.jsonl"

    async def logged() -> bool:
        return path.read_bytes().count(b"\n") >= 7

    await until(logged, seconds=5)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    asked = [streamed, whole, *refused, nobody]
    assert [line["request_id"] for line in lines if line["method"]] == [one.headers["x-request-id"] for one in asked]
    assert [line["status"] for line in lines] == [200, 200, 401, 400, 404, 400, nobody.status]
    first_line, second_line = lines[:2]
    assert [(one["pool"], one["outcome"]) for one in first_line["attempts"]] == [("first", "cut"), ("second", "ok")]
    assert (first_line["tenant"], first_line["lane"], first_line["traceparent"]) == ("acme", "paid", trace)
    assert first_line["tokens_out"] == len(streamed.chunks) - 2  # the role, and the finish reason
    assert 0 < first_line["first_token_s"] <= first_line["duration_s"]
    assert (second_line["tokens_in"], second_line["tokens_out"]) == (
        whole.usage["prompt_tokens"],
        whole.usage["completion_tokens"],
    )
    assert [line["refusal"] for line in lines[2:6]] == [
        "missing_api_key",
        lines[3]["refusal"],
        "unknown_url",
        "the request is not valid HTTP/1.1",
    ]
    assert "not valid JSON" in lines[3]["refusal"]
    assert lines[3]["tenant"] == "acme"
    assert lines[6]["attempts"], "what was tried is told"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["at"]) for line in lines)
