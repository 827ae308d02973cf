"""One run of `secondsource parity`: asks until the judge is done, or the probes are used up."""

import asyncio
from collections.abc import Callable

import msgspec

from secondsource.core.errors import NoAnswerError
from secondsource.parity.comparison import Exchange, compare
from secondsource.parity.judging import Judge
from secondsource.parity.probes import make_probe
from secondsource.parity.replicas import Sides

MOST_UNANSWERED = 12  # probes in a row that brought no answer from one of the pools, whatever the reason


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is made."""

    probes: int = 200  # the most
    tolerance: float
    longest: int = 16384  # tokens of the longest context to be shown
    at_once: int = 4


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What a run leaves."""

    judge: Judge
    context_tokens: int  # that was shown
    logprobs: bool


async def examine(
    sides: Sides, terms: Terms, listen: Callable[[Judge], None], keep: Callable[[Exchange], None]
) -> Examined:
    """Return what was found; raises NoAnswerError when a pool does not answer.

    Probes are judged in their own order, `at_once` of them asked together.
    """
    logprobs = await sides.survey()
    context, records = await sides.document_records(terms.longest)
    judge = Judge(logprobs=logprobs, tolerance=terms.tolerance)
    unanswered = 0
    while len(judge.comparisons) < terms.probes and not judge.is_done:
        count = min(terms.at_once, terms.probes - len(judge.comparisons))
        begun = len(judge.comparisons)
        probes = [make_probe(*judge.next_probe(), records) for _ in range(count)]
        exchanges = await asyncio.gather(*(sides.exchange(probe, begun + place) for place, probe in enumerate(probes)))
        for probe, exchange in zip(probes, exchanges, strict=True):
            keep(exchange)
            judge.take(compare(probe, exchange))
            first = exchange.pairs[0]
            lost = [answer for answer in (first.a, first.b) if answer.status == 0 or answer.status >= 500]
            unanswered = unanswered + 1 if lost else 0
            if unanswered >= MOST_UNANSWERED:
                raise NoAnswerError(f"{unanswered} probes in a row had no answer, the last: {lost[0].error}")
        listen(judge)
    return Examined(judge=judge, context_tokens=context, logprobs=logprobs)
