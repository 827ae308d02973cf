"""Probes find out who is there, what it runs and what it can do, and let an open circuit out again."""

import asyncio
import json
import math
from typing import Any

import pytest

from secondsource.core.fleet import Continuation
from secondsource.core.records import Outcome
from secondsource.gateway import probe
from secondsource.gateway.probe import Prober, check_fleet, context_of, make_clients, models_in
from secondsource.gateway.upstream import Fetched, FetchError
from secondsource.policy.circuit import CircuitState
from secondsource.policy.replica import Replica
from tests.fleets import fleet, pool, router


def models(*entries: dict[str, Any], status: int = 200) -> Fetched:
    return Fetched(status, {}, json.dumps({"object": "list", "data": list(entries)}).encode())


class Client:
    """Answers every fetch with what the test says, and counts them."""

    def __init__(self, *answers: Fetched | Outcome) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.closed = False

    async def fetch(self, method: bytes, path: bytes, body: bytes, timeout_s: float | None, limit: int) -> Fetched:
        self.asked.append(path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Outcome):
            raise FetchError(answer, "played")
        return answer

    def close(self) -> None:
        self.closed = True


def prober(*answers: Fetched | Outcome) -> tuple[Prober, Replica, Client]:
    [replica] = router(pool("a", upstream_model="m")).replicas
    client = Client(*answers)
    return Prober({replica: client}), replica, client  # type: ignore[dict-item]


VLLM = {"id": "m", "owned_by": "vllm", "max_model_len": 4096}


def test_what_a_replica_says_of_itself() -> None:
    answer = models(VLLM, {"id": "other", "owned_by": "someone"})
    assert models_in(answer) == (("m", "other"), "vllm")
    assert context_of(answer, "m") == 4096
    assert context_of(answer, "other") is None


async def test_vllms_own_metrics_bound_what_it_is_asked() -> None:
    page = b'vllm:num_requests_waiting{engine="0"} 3.0\nvllm:kv_cache_usage_perc{engine="0"} 0.5\n'
    over, replica, client = prober(models(VLLM), Fetched(200, {}, page))
    replica.in_flight = 10
    await over.first_round(5.0)
    assert client.asked == [b"/v1/models", b"/metrics"]
    assert (replica.limit, replica.report.waiting, replica.report.cache_used) == (7, 3, 0.5)


async def test_who_has_no_metrics_is_asked_for_them_once() -> None:
    over, replica, client = prober(models(VLLM), Fetched(404, {}, b""), models(VLLM))
    for _ in range(2):
        over._next[replica] = 0.0
        await over.first_round(5.0)
        await asyncio.sleep(0)
    assert client.asked == [b"/v1/models", b"/metrics", b"/v1/models"]
    assert replica.limit == math.inf


def test_our_own_engine_has_vllms_ways() -> None:
    assert models_in(models({**VLLM, "owned_by": "secondsource-engine"})) == (("m",), "vllm")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"data":5}', b'{"data":null}', b'{"data":[{"id":5}]}', b'{"data":"\xff"}']
)
def test_what_cannot_be_read_says_nothing(body: bytes) -> None:
    assert models_in(Fetched(200, {}, body)) == ((), "")


async def test_the_first_round_learns_engine_and_context() -> None:
    asking, replica, client = prober(models(VLLM))
    await asking.first_round(1.0)
    assert (replica.engine, replica.context_tokens) == ("vllm", 4096)
    assert client.asked == [b"/v1/models", b"/metrics"]
    await asking.first_round(1.0)  # it is not due again
    assert len(client.asked) == 2


@pytest.mark.parametrize("status", [200, 401, 404])
async def test_whoever_answers_is_alive(status: int) -> None:
    asking, replica, _ = prober(models(status=status))
    await asking.first_round(1.0)
    assert replica.circuit.state is CircuitState.CLOSED


@pytest.mark.parametrize("answer", [Outcome.CONNECT_FAILED, Outcome.GARBLED, models(status=503)])
async def test_who_does_not_is_not(answer: Fetched | Outcome) -> None:
    asking, replica, _ = prober(answer)
    await asking.first_round(1.0)
    assert replica.circuit.state is CircuitState.OPEN


@pytest.mark.parametrize("outcome", [Outcome.FIRST_TOKEN_TIMEOUT, Outcome.RESET])
async def test_one_slow_or_broken_probe_opens_nothing_and_three_do(outcome: Outcome) -> None:
    asking, replica, _ = prober(outcome)
    for number in range(3):
        assert replica.circuit.state is CircuitState.CLOSED, number
        await asking._probe(replica)
    assert replica.circuit.state is CircuitState.OPEN


async def test_an_open_circuit_is_probed_after_its_back_off_and_half_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TICK_S", 0.005)
    asking, replica, client = prober(Outcome.CONNECT_FAILED, models(VLLM))
    await asking.first_round(1.0)
    assert replica.circuit.state is CircuitState.OPEN
    running = asyncio.create_task(asking.run())
    async with asyncio.timeout(5):
        while replica.circuit.state is CircuitState.OPEN:  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert replica.circuit.state is CircuitState.HALF_OPEN
    assert client.asked.count(b"/v1/models") == 2  # once at the start, and once after the back-off


CHECKED = [
    ([models(VLLM), Fetched(200, {}, b"{}")], Continuation.PREFILL, True, "prefill", ""),
    ([models(VLLM), Fetched(400, {}, b"{}")], Continuation.PREFILL, True, "none", "refuses a prefilled turn"),
    ([models(VLLM), Fetched(500, {}, b"{}")], Continuation.PREFILL, True, "unknown", "HTTP 500"),
    ([models(VLLM), Outcome.STALLED], Continuation.PREFILL, True, "unknown", "no answer to a prefilled turn"),
    ([models(VLLM)], Continuation.NONE, True, "none", ""),
    ([models({"id": "x"})], Continuation.NONE, False, "none", "it has no 'm'"),
    ([models({"id": "x", "owned_by": "llamacpp"})], Continuation.NONE, True, "none", ""),
    ([models({"id": "m"})], Continuation.TOKENS, True, "prefill", "llama.cpp and vLLM only"),
    ([models(status=401)], Continuation.NONE, False, "unknown", "refuses our key"),
    ([models(status=500)], Continuation.NONE, False, "unknown", "HTTP 500"),
    ([Outcome.CONNECT_FAILED], Continuation.NONE, False, "unknown", "connect failed"),
]


@pytest.mark.parametrize(("answers", "wanted", "serves", "found", "detail"), CHECKED)
async def test_checking_a_fleet(
    monkeypatch: pytest.MonkeyPatch,
    answers: list[Fetched | Outcome],
    wanted: Continuation,
    serves: bool,
    found: str,
    detail: str,
) -> None:
    over = fleet(pool("a", upstream_model="m", continuation=wanted))
    client = Client(*answers)
    monkeypatch.setattr(probe, "make_clients", lambda *_: {("a", over.pools[0].replicas[0]): client})
    [report] = await check_fleet(over, {})
    assert (report.serves_model, report.continuation) == (serves, found)
    assert detail in report.detail
    assert client.closed


def test_every_replica_has_a_client_with_its_pools_key() -> None:
    clients = make_clients(fleet(pool("a", 2), pool("b")), {"a": "secret"})
    assert len(clients) == 3
    heads = {name: client.target.request(b"GET", b"/", b"", b"") for (name, _), client in clients.items()}
    assert b"Bearer secret" in heads["a"]
    assert b"authorization" not in heads["b"]
