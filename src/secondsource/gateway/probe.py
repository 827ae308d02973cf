"""Asking replicas whether they are there, what they run and which models they have."""

import asyncio
import ssl
import time
from collections.abc import Mapping

import msgspec

from secondsource.core.fleet import Continuation, Fleet, Pool
from secondsource.core.records import Outcome
from secondsource.gateway.upstream import Fetched, FetchError, ReplicaClient, Target
from secondsource.policy.circuit import CircuitState
from secondsource.policy.concurrency import LoadReport, read_vllm_metrics
from secondsource.policy.replica import Replica

PROBE_EVERY_S = 5.0
LOAD_EVERY_S = 1.0  # of a replica that tells its load
PROBE_TIMEOUT_S = 5.0
TICK_S = 0.1
ANSWER_LIMIT = 1024 * 1024
# How an engine names itself, and whose way of continuing it has. Our own speaks vLLM's.
DIALECTS = {"llamacpp": "llamacpp", "vllm": "vllm", "sglang": "sglang", "secondsource-engine": "vllm"}
# Busy, perhaps; or the kept connection was closed as the probe was sent.
MAY_BE_WELL = frozenset({Outcome.FIRST_TOKEN_TIMEOUT, Outcome.RESET})
SAMPLE_PREFIX = "The answer to your question is"


class _Model(msgspec.Struct):
    id: str = ""
    owned_by: str | None = None
    max_model_len: int | None = None  # vLLM's and SGLang's word for the context


class _Models(msgspec.Struct):
    data: list[_Model] | None = None


class ReplicaReport(msgspec.Struct, frozen=True):
    """What a replica said of itself."""

    pool: str
    replica: str
    reachable: bool
    engine: str | None
    models: tuple[str, ...]
    serves_model: bool
    continuation: str
    detail: str


def make_clients(fleet: Fleet, secrets: Mapping[str, str]) -> dict[tuple[str, str], ReplicaClient]:
    """Return a client for each replica by pool name and URL; `secrets` is the bearer token by pool name."""
    tls = ssl.create_default_context() if any(_uses_tls(pool) for pool in fleet.pools) else None
    connect = fleet.timeouts.connect
    return {
        (pool.name, url): ReplicaClient(Target(url, secrets.get(pool.name), tls), connect)
        for pool in fleet.pools
        for url in pool.replicas
    }


def _uses_tls(pool: Pool) -> bool:
    return any(url.startswith("https:") for url in pool.replicas)


async def ask_models(client: ReplicaClient, timeout_s: float) -> Fetched:
    """Return a replica's `/v1/models`; raises FetchError."""
    return await client.fetch(b"GET", b"/v1/models", b"", timeout_s, ANSWER_LIMIT)


def context_of(answer: Fetched, upstream_model: str) -> int | None:
    """Return the context that a replica says its model has, in tokens."""
    return next((model.max_model_len for model in _listed(answer) if model.id == upstream_model), None)


def _listed(answer: Fetched) -> list[_Model]:
    try:
        return msgspec.json.decode(answer.body, type=_Models).data or []
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def models_in(answer: Fetched) -> tuple[tuple[str, ...], str]:
    """Return the models that a replica lists and the engine whose ways it has, or "" when it does not say."""
    listed = _listed(answer)
    dialects = [dialect for model in listed if (dialect := DIALECTS.get(model.owned_by or ""))]
    return tuple(model.id for model in listed), dialects[0] if dialects else ""


class Prober:
    """Asks every replica now and then, and one whose circuit is open as soon as its back-off has passed."""

    def __init__(self, clients: Mapping[Replica, ReplicaClient]) -> None:
        self._clients = clients
        self._next = dict.fromkeys(clients, 0.0)
        self._running: dict[Replica, asyncio.Task[None]] = {}
        self._tell_no_load: set[Replica] = set()

    def reload(self, clients: Mapping[Replica, ReplicaClient]) -> None:
        """Ask these from now on; one that is new is asked at once."""
        self._clients = clients
        self._next = {replica: self._next.get(replica, 0.0) for replica in clients}

    async def first_round(self, within_s: float) -> None:
        """Ask every replica once, so that the first request finds their state known."""
        self._start_due(time.monotonic())
        if self._running:
            await asyncio.wait(self._running.values(), timeout=within_s)

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                self._start_due(time.monotonic())
                await asyncio.sleep(TICK_S)
        finally:
            for task in self._running.values():
                task.cancel()

    def _start_due(self, now: float) -> None:
        for replica in self._clients:
            circuit = replica.circuit
            is_open = circuit.state is CircuitState.OPEN
            due = circuit.retry_at if is_open else self._next[replica]
            if now >= due and replica not in self._running:
                self._next[replica] = now + PROBE_EVERY_S
                task = asyncio.create_task(self._probe(replica), name=f"probe {replica.url}")
                self._running[replica] = task
                task.add_done_callback(lambda _, replica=replica: self._running.pop(replica, None))  # type: ignore[misc]

    async def _probe(self, replica: Replica) -> None:
        try:
            answer = await ask_models(self._clients[replica], PROBE_TIMEOUT_S)
        except FetchError as error:
            if error.outcome in MAY_BE_WELL and replica.circuit.state is CircuitState.CLOSED:
                replica.circuit.failed(Outcome.RESET, time.monotonic())  # three of these open it
            else:
                replica.circuit.probed(alive=False, now=time.monotonic())
            return
        alive = answer.status < 500
        replica.circuit.probed(alive=alive, now=time.monotonic())
        if answer.status == 200:
            replica.engine = models_in(answer)[1] or replica.engine
            if replica.context_tokens is None:
                replica.context_tokens = context_of(answer, replica.pool.upstream_model)
            if replica.engine == "vllm" and replica not in self._tell_no_load:
                await self._ask_load(replica)

    async def _ask_load(self, replica: Replica) -> None:
        """Take vLLM's own metrics for what the replica can bear, and ask again soon; once, where it has none."""
        try:
            answer = await self._clients[replica].fetch(b"GET", b"/metrics", b"", PROBE_TIMEOUT_S, ANSWER_LIMIT)
        except FetchError:
            return
        report = read_vllm_metrics(answer.body.decode("utf-8", "replace")) if answer.status == 200 else LoadReport()
        if report == LoadReport():
            self._tell_no_load.add(replica)
        else:
            replica.load_reported(report, time.monotonic())
            self._next[replica] = time.monotonic() + LOAD_EVERY_S


async def check_fleet(fleet: Fleet, secrets: Mapping[str, str]) -> list[ReplicaReport]:
    """Ask every replica of the fleet what it can do; an unreachable one is reported, not raised."""
    clients = make_clients(fleet, secrets)
    try:
        asked = [_check(pool, url, clients[pool.name, url]) for pool in fleet.pools for url in pool.replicas]
        return list(await asyncio.gather(*asked))
    finally:
        for client in clients.values():
            client.close()


async def _check(pool: Pool, url: str, client: ReplicaClient) -> ReplicaReport:
    try:
        answer = await ask_models(client, PROBE_TIMEOUT_S)
    except FetchError as error:
        return _report(pool, url, reachable=False, detail=f"{error.outcome.value.replace('_', ' ')}: {error.detail}")
    models, engine = models_in(answer)
    if answer.status in (401, 403):
        variable = pool.api_key_env or "api_key_env"
        return _report(pool, url, reachable=True, engine=engine, detail=f"it refuses our key: check {variable}")
    if answer.status != 200:
        return _report(
            pool, url, reachable=answer.status < 500, engine=engine, detail=f"/v1/models: HTTP {answer.status}"
        )
    # llama.cpp's server serves the one model it has, whatever name it is asked for.
    serves = pool.upstream_model in models or engine == "llamacpp"
    detail = "" if serves else f"it has no '{pool.upstream_model}': set upstream_model to one of {', '.join(models)}"
    continuation, remark = await _check_continuation(pool, client, engine)
    return ReplicaReport(pool.name, url, True, engine or None, models, serves, continuation, detail or remark)


async def _check_continuation(pool: Pool, client: ReplicaClient, engine: str) -> tuple[str, str]:
    """Try what the fleet file says of continuing; two tokens at the most."""
    if pool.continuation is Continuation.NONE:
        return Continuation.NONE.value, ""
    if pool.continuation is Continuation.TOKENS and engine not in ("llamacpp", "vllm"):
        return Continuation.PREFILL.value, "token ids are known of llama.cpp and vLLM only: it continues by prefill"
    body = {
        "model": pool.upstream_model,
        "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": SAMPLE_PREFIX}],
        "max_tokens": 2,
        "temperature": 0,
    }
    if engine != "llamacpp":
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    try:
        answer = await client.fetch(
            b"POST", b"/v1/chat/completions", msgspec.json.encode(body), PROBE_TIMEOUT_S * 4, ANSWER_LIMIT
        )
    except FetchError as error:
        return "unknown", f"no answer to a prefilled turn: {error.detail}"
    if answer.status == 200:
        return pool.continuation.value, ""
    if answer.status >= 500:
        return "unknown", f"no answer to a prefilled turn: HTTP {answer.status}"
    return Continuation.NONE.value, f"it refuses a prefilled turn (HTTP {answer.status}): set continuation = 'none'"


def _report(pool: Pool, url: str, *, reachable: bool, engine: str = "", detail: str) -> ReplicaReport:
    return ReplicaReport(
        pool.name, url, reachable, engine or None, (), serves_model=False, continuation="unknown", detail=detail
    )
