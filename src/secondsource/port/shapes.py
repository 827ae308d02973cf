"""Which programs serving compiles: one day of requests, drawn from a seed, through the engine's buckets."""

import random
from bisect import bisect_left

from secondsource.engine.runner import RunnerOptions

REQUESTS_A_DAY = 20_000
_SPREAD = 1.0  # of the logarithm of prompt and answer lengths
_SEED = 20261122
Shape = tuple[int, int]  # tokens of a prefill chunk (0: a decode step), context


def buckets(context_tokens: int, chunk_tokens: int) -> RunnerOptions:
    """Return the engine's buckets for this context: powers of four, up to the chunk and the whole context."""
    return RunnerOptions(
        context_buckets=_powers(256, context_tokens), prefill_buckets=_powers(16, min(chunk_tokens, context_tokens))
    )


def _powers(first: int, last: int) -> tuple[int, ...]:
    found = [first]
    while found[-1] * 4 < last:
        found.append(found[-1] * 4)
    return (*(size for size in found if size < last), last)


def shapes_of_a_day(options: RunnerOptions, prompt_tokens: int, answer_tokens: int) -> set[Shape]:
    """Return the shapes that a day's requests pass through; lengths spread about the given means."""
    draw = random.Random(_SEED)  # noqa: S311 -- a simulation, replayable
    limit = options.context_buckets[-1]
    found: set[Shape] = set()
    for _ in range(REQUESTS_A_DAY):
        prompt = min(limit - 1, max(1, round(prompt_tokens * draw.lognormvariate(0.0, _SPREAD))))
        answer = min(limit - prompt, max(1, round(answer_tokens * draw.lognormvariate(0.0, _SPREAD))))
        found |= _of_request(options, prompt, answer)
    return found


def _of_request(options: RunnerOptions, prompt: int, answer: int) -> set[Shape]:
    found: set[Shape] = set()
    largest = options.prefill_buckets[-1]
    for start in range(0, prompt, largest):
        chunk = _bucket(options.prefill_buckets, min(largest, prompt - start))
        found.add((chunk, _bucket(options.context_buckets, max(min(prompt, start + largest), chunk))))
    first, last = (bisect_left(options.context_buckets, tokens) for tokens in (prompt + 1, prompt + answer))
    return found | {(0, context) for context in options.context_buckets[first : last + 1]}


def _bucket(sizes: tuple[int, ...], wanted: int) -> int:
    return sizes[min(bisect_left(sizes, wanted), len(sizes) - 1)]
