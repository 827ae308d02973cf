"""Learns of a replica's engine, once, whether it says a given beginning again: when a chat is first to go on there."""

from collections.abc import Awaitable, Callable

import msgspec

from secondsource.core.records import Outcome
from secondsource.gateway.upstream import FetchError, ReplicaClient
from secondsource.gateway.wire.continuation import Method
from secondsource.gateway.wire.habit import habit_request, repeats_given
from secondsource.gateway.wire.request import Endpoint
from secondsource.policy.replica import Replica

Fetch = Callable[[str, bytes], Awaitable[bytes]]  # path and body to an answer; raises FetchError


def repeats(endpoint: Endpoint, method: Method | None, replica: Replica) -> bool | None:
    """Return whether what goes on begins with what its client has, or None where that has yet to be found out.

    A text completion's prompt is simply longer, and vLLM says nothing again unless it is asked to.
    """
    may = endpoint is Endpoint.CHAT and method is Method.PREFILL and replica.engine != "vllm"
    return replica.state.prefill_repeats if may else False


async def learn(replica: Replica, client: ReplicaClient, fetch: Fetch) -> None:
    """Ask, unless it is known by now; raises FetchError. Of many that come at once one asks, and the others wait."""
    async with client.learning:
        if replica.state.prefill_repeats is None:
            answer = await fetch(*habit_request(replica.pool.upstream_model, replica.engine))
            try:
                replica.state.prefill_repeats = repeats_given(answer)
            except msgspec.DecodeError:
                raise FetchError(Outcome.GARBLED, "no answer to a turn that had begun") from None
