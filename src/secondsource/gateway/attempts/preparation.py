"""What is asked of a replica: the client's request in its words, or the answer so far to go on from."""

import msgspec

from secondsource.core.fleet import Continuation
from secondsource.core.records import Outcome
from secondsource.gateway.attempts import habit
from secondsource.gateway.attempts.plan import Plan
from secondsource.gateway.upstream import FetchError
from secondsource.gateway.wire import continuation
from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.delivered import Delivered
from secondsource.gateway.wire.request import Ask, Endpoint, asking_for_token_ids, encode, upstream_fields

ANSWER_LIMIT = 16 * 1024 * 1024  # bytes of what a replica says of a prompt
REFUSING = frozenset({400, 404, 405, 415, 422, 501})


def needed(plan: Plan) -> bool:
    """Return whether the replica has to be asked something before the request can be sent."""
    if plan.method is Method.TOKENS:
        return True
    return habit.repeats(plan.ask.endpoint, plan.method, plan.replica) is None


async def prepare(plan: Plan, delivered: Delivered) -> tuple[str, bytes, bool]:
    """Ask the replica what has to be known, and return the request's path, its body, and whether ids are asked for.

    Raises FetchError.
    """
    if plan.method is Method.TOKENS:
        return "/v1/completions", await _by_tokens(plan, delivered), False

    async def fetch(path: str, body: bytes) -> bytes:
        return await _fetch(plan, path, body)

    await habit.learn(plan.replica, plan.client, fetch)
    return plan.ask.path, *own_words(plan, delivered)


def own_words(plan: Plan, delivered: Delivered) -> tuple[bytes, bool]:
    """Return the request's body in the replica's words, and whether it asks for token ids the client did not want."""
    model = plan.replica.pool.upstream_model
    if plan.method is Method.PREFILL:
        return encode(continuation.prefill_fields(plan.ask, delivered, model, plan.replica.engine)), False
    fields = upstream_fields(plan.ask, model)
    exact = plan.replica.state.continuation is Continuation.TOKENS
    asks_ids = exact and plan.ask.stream and plan.ask.choices == 1 and plan.ask.endpoint is not Endpoint.IMAGES
    if asks_ids:
        asks_ids = asking_for_token_ids(fields, plan.ask.endpoint, plan.replica.engine)
    return encode(fields), asks_ids


async def _by_tokens(plan: Plan, delivered: Delivered) -> bytes:
    """Render the prompt at the replica and settle which ids have been made."""
    ask, engine, model = plan.ask, plan.replica.engine, plan.replica.pool.upstream_model
    made = continuation.pieces_made(delivered)
    prompt = await _prompt(plan, ask, delivered)
    if prompt is None:
        raise FetchError(Outcome.PREFILL_REFUSED, "the replica did not render the prompt")
    tokenize = continuation.tokenize_request(made) if engine == "llamacpp" else None
    if tokenize is not None:
        made = continuation.parse_template(await _fetch(plan, *tokenize)) or made
    context = plan.replica.context_tokens
    return encode(continuation.tokens_fields(ask, model, prompt, made, engine=engine, context_tokens=context))


async def _prompt(plan: Plan, ask: Ask, delivered: Delivered) -> continuation.Prompt | None:
    engine, model = plan.replica.engine, plan.replica.pool.upstream_model
    if engine == "vllm" and delivered.prompt_token_ids:
        return list(delivered.prompt_token_ids)
    if not ask.raw("messages") and engine != "vllm":
        return [msgspec.json.decode(ask.raw("prompt"), type=str)]
    return continuation.parse_template(await _fetch(plan, *continuation.template_request(ask, model, engine)))


async def _fetch(plan: Plan, path: str, body: bytes) -> bytes:
    answer = await plan.client.fetch(b"POST", path.encode(), body, None, ANSWER_LIMIT)
    if answer.status in REFUSING:
        raise FetchError(Outcome.PREFILL_REFUSED, f"{path}: HTTP {answer.status}")
    if answer.status != 200:
        outcome = Outcome.THROTTLED if answer.status == 429 else Outcome.SERVER_ERROR
        raise FetchError(outcome, f"{path}: HTTP {answer.status}")
    return answer.body
