"""The edge: puts probes to the replicas of two pools, over the gateway's own client."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from secondsource.core.errors import NoAnswerError
from secondsource.core.fleet import Fleet, Pool
from secondsource.gateway.probe import ask_models, context_of, make_clients
from secondsource.gateway.upstream import FetchError, ReplicaClient
from secondsource.parity.comparison import Exchange, Pair, can_go_on
from secondsource.parity.probes import STRUCTURED, Kind, Message, Probe, document
from secondsource.parity.wire import Answer, Asked, read_answer, request_of

MOST_LOGPROBS = (20, 5)  # as many as common servers give, else as few as the common hosted APIs do
ANSWER_LIMIT = 64 * 1024 * 1024
MODELS_TIMEOUT_S = 10.0
RETRIES = 2
RETRY_AFTER_S = 1.0
SEGMENTS = 3  # of one raw completion, parted and gone on from again
SAMPLED_TEMPERATURE = 1.0
UNKNOWN_CONTEXT = 4096
LEAST_CONTEXT = 256
UNKNOWN_RECORD = 25.0  # tokens, where usage is not told
AROUND_DOCUMENT = 64  # tokens: the template, the question and the answer


class Side:
    """One pool: its replicas in turn, and what it was found to give."""

    def __init__(self, pool: Pool, clients: dict[str, ReplicaClient], timeout_s: float) -> None:
        self.pool = pool
        self.top_logprobs = 0
        self._clients = clients
        self._timeout_s = timeout_s

    def replica(self, number: int) -> str:
        """Return the replica whose turn it is."""
        return self.pool.replicas[number % len(self.pool.replicas)]

    async def context_tokens(self) -> int | None:
        """Return the context that the fleet file declares, else the one that the first replica does."""
        if self.pool.context_tokens is not None:
            return self.pool.context_tokens
        try:
            answer = await ask_models(self._clients[self.replica(0)], MODELS_TIMEOUT_S)
        except FetchError:
            return None
        return context_of(answer, self.pool.upstream_model)

    async def ask(
        self, probe: Probe, number: int, *, said: str = "", temperature: float = 0.0, logprobs: int | None = None
    ) -> Answer:
        """Return a replica's answer; what is not the model's doing (busy, away) is tried again, then status 0."""
        asked = Asked(
            model=self.pool.upstream_model,
            top_logprobs=self.top_logprobs if logprobs is None else logprobs,
            temperature=temperature,
            seed=number if temperature else None,
        )
        path, body = request_of(probe, asked, said)
        client = self._clients[self.replica(number)]
        answer = Answer(status=0)
        for attempt in range(RETRIES + 1):
            if attempt:
                await asyncio.sleep(RETRY_AFTER_S * attempt)
            try:
                fetched = await client.fetch(b"POST", path, body, self._timeout_s, ANSWER_LIMIT)
            except FetchError as error:
                answer = Answer(status=0, error=f"{error.outcome.value.replace('_', ' ')}: {error.detail}")
                continue
            answer = read_answer(fetched.status, fetched.body)
            if answer.status in (401, 403):
                raise NoAnswerError(f"{self.pool.name}: it refuses our key (HTTP {answer.status}): {answer.error}")
            if answer.status and answer.status != 429 and answer.status < 500:
                break
        return answer

    async def survey(self) -> None:
        """Find out how many log probabilities the pool gives; raises NoAnswerError when it does not answer at all."""
        hello = Probe(kind=Kind.ENDINGS, number=0, messages=(Message("user", "Say hello."),), max_tokens=2)
        answer = Answer(status=0)
        for most in (*MOST_LOGPROBS, 0):
            answer = await self.ask(hello, 0, logprobs=most)
            if answer.status == 200:
                self.top_logprobs = most if answer.positions else 0
                return
        status = f"HTTP {answer.status}: " if answer.status else ""
        raise NoAnswerError(
            f"pool {self.pool.name} does not answer at {self.replica(0)}: {status}{answer.error}; "
            "see that it serves (secondsource up --check) and run this again"
        )


class Sides:
    """Both pools, asked alike."""

    def __init__(self, a: Side, b: Side) -> None:
        self.a = a
        self.b = b

    async def survey(self) -> bool:
        """Find out what both give; True when there are logprobs to compare."""
        await asyncio.gather(self.a.survey(), self.b.survey())
        self.a.top_logprobs = self.b.top_logprobs = min(self.a.top_logprobs, self.b.top_logprobs)
        return self.a.top_logprobs > 0

    async def document_records(self, longest: int) -> tuple[int, int]:
        """Return the context to be shown, in tokens, and the records of a document that fill it at `b`.

        It is what the fleet file declares for `a`, else what `b` has: a pool whose replicas have less than is
        declared, or less than `b`, is what the long probes are to find.
        """
        of_b = await self.b.context_tokens()
        context = min(longest, self.a.pool.context_tokens or of_b or UNKNOWN_CONTEXT, of_b or longest)
        sizes = [(await self._read(records)).prompt_tokens for records in (8, 24)]
        few, many = sizes
        per_record = (many - few) / 16 if few and many and many > few else UNKNOWN_RECORD
        while context > LEAST_CONTEXT and 400 <= (await self._read(_filling(context, per_record))).status < 500:
            context //= 2
        return context, _filling(context, per_record)

    async def _read(self, records: int) -> Answer:
        message = Message("user", document(records))
        return await self.b.ask(Probe(kind=Kind.LONG, number=0, messages=(message,), max_tokens=1), 0, logprobs=0)

    async def exchange(self, probe: Probe, number: int) -> Exchange:
        """Put a probe to both pools; `number` counts probes, and says whose turn it is."""
        pairs = [await self._pair(probe, number)]
        exchange = self._exchange(probe, number, pairs)
        said = ""
        while len(pairs) < SEGMENTS and (more := can_go_on(exchange)) is not None:
            said += more
            pairs.append(await self._pair(probe, number, said=said))
            exchange = self._exchange(probe, number, pairs)
        if probe.kind is Kind.SAMPLING:
            sampled = await self._pair(probe, number, temperature=SAMPLED_TEMPERATURE)
            exchange = msgspec.structs.replace(exchange, sampled=sampled)
        return exchange

    def _exchange(self, probe: Probe, number: int, pairs: list[Pair]) -> Exchange:
        return Exchange(
            kind=probe.kind,
            number=probe.number,
            replica_a=self.a.replica(number),
            replica_b=self.b.replica(number),
            pairs=tuple(pairs),
        )

    async def _pair(self, probe: Probe, number: int, *, said: str = "", temperature: float = 0.0) -> Pair:
        wanted = None if probe.kind not in STRUCTURED else 0
        a, b = await asyncio.gather(
            *(side.ask(probe, number, said=said, temperature=temperature, logprobs=wanted) for side in (self.a, self.b))
        )
        return Pair(a, b)


def _filling(context: int, per_record: float) -> int:
    return max(8, int((context - AROUND_DOCUMENT) / per_record))


Work = Callable[[Sides], Awaitable[None]]


async def with_sides(fleet: Fleet, secrets: dict[str, str], a: Pool, b: Pool, work: Work) -> None:
    """Do `work` with both pools' connections open."""
    clients = make_clients(msgspec.structs.replace(fleet, pools=(a, b)), secrets)
    try:
        timeout = fleet.timeouts.answer
        side_a, side_b = (
            Side(pool, {url: clients[pool.name, url] for url in pool.replicas}, timeout) for pool in (a, b)
        )
        await work(Sides(side_a, side_b))
    finally:
        for client in clients.values():
            client.close()
