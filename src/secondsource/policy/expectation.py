"""What a request is expected to need, learned from those before it: one `Expectation` for each model.

Admission wants the time to the first token and the work, limits want the most that can be used, shares of the spend
want the cost. Nothing is tokenised: a prompt's tokens are its bytes times what a byte was of late.
"""

from collections.abc import Sequence
from typing import NamedTuple

from secondsource.core.fleet import Pool, Price
from secondsource.core.records import Outcome, Settled
from secondsource.policy.first_token import FirstToken
from secondsource.policy.limits import Use

LEARNING = 0.05
TOKENS_PER_BYTE = 0.25
MOST_TOKENS_PER_BYTE = 0.5  # until more are seen
TEMPLATE_TOKENS = 32  # that a chat's template may add
PROMPT_TOKENS_PER_S = 10_000.0
OVERHEAD_S = 0.02
SECONDS_PER_TOKEN = 0.02
ANSWER_TOKENS = 256.0
MOST_ANSWER_TOKENS = 4096  # without a limit of its own, until longer ones are seen
MOST_CONTEXT_TOKENS = 1_000_000
SAFETY = 1.5  # of the most of late
FORGETTING = 0.999  # of the most of late, with each answer
TOKENS_PER_S_ALONE = 20.0  # of one answer that has a replica to itself, until its cost is seen
LEAST_LEARNED_S = 1e-4
SECONDS_PER_PIXEL_STEP = 1 / 20_000_000  # of images, until some are seen


class Size(NamedTuple):
    """A request as it came."""

    body_bytes: int
    most_tokens: int | None = None  # of each answer, where the client says so
    choices: int = 1
    pixel_steps: int = 0  # of images: pixels times denoising steps, over all of them


class Expected(NamedTuple):
    """What one request needs, as far as is known beforehand."""

    prompt_tokens: int
    first_token_s: float  # from dispatch
    work_s: float  # how long it occupies a slot


class Expectation:
    """What requests of one model have needed of late."""

    __slots__ = (
        "_answer_part",
        "_answer_tokens",
        "_context_tokens",
        "_first_token",
        "_most_answer",
        "_most_nano_usd_per_token",
        "_most_per_byte",
        "_per_byte",
        "_pools",
        "_seconds_per_pixel_step",
        "_seconds_per_token",
        "_seen",
        "nano_usd",
    )

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._first_token = FirstToken(PROMPT_TOKENS_PER_S, OVERHEAD_S)
        self._per_byte, self._most_per_byte = TOKENS_PER_BYTE, MOST_TOKENS_PER_BYTE
        self._answer_tokens = ANSWER_TOKENS
        self._answer_part = 1.0  # of the client's own limit
        self._most_answer = float(MOST_ANSWER_TOKENS)
        self._seconds_per_token = SECONDS_PER_TOKEN
        self._seconds_per_pixel_step = SECONDS_PER_PIXEL_STEP
        self._most_nano_usd_per_token = 0.0
        self._seen = 0
        self.nano_usd = 0.0  # what an attempt costs, on average
        self.reload(pools)

    def reload(self, pools: Sequence[Pool]) -> None:
        """Take the model's pools as they are now; what was learned stays."""
        known = [pool.context_tokens for pool in pools]
        self._context_tokens = max((one or MOST_CONTEXT_TOKENS for one in known), default=MOST_CONTEXT_TOKENS)
        self._pools = tuple(pools)
        rents = [pool.price.nano_usd_per_replica_hour for pool in pools]
        alone = max(rents, default=0) / (3600.0 * TOKENS_PER_S_ALONE)
        self._most_nano_usd_per_token = self._most_nano_usd_per_token or alone

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The model's pools."""
        return self._pools

    def of(self, size: Size) -> Expected:
        """Return what a request is expected to need."""
        prompt = int(size.body_bytes * self._per_byte)
        first_token_s = self._first_token.predicted_s(prompt)
        if size.pixel_steps:
            return Expected(prompt, first_token_s, size.pixel_steps * self._seconds_per_pixel_step)
        answer = self._answer_tokens if size.most_tokens is None else size.most_tokens * self._answer_part
        return Expected(prompt, first_token_s, first_token_s + answer * self._seconds_per_token)

    def most(self, size: Size) -> Use:
        """Return the most that a request may use: its reservation."""
        prompt = min(int(size.body_bytes * self._most_per_byte * SAFETY) + TEMPLATE_TOKENS, self._context_tokens)
        if size.pixel_steps:
            return Use(prompt, max((self._images(pool.price, prompt, size) for pool in self._pools), default=0))
        answer = size.most_tokens
        if answer is None:
            answer = int(self._most_answer * SAFETY)
        answer = min(answer, self._context_tokens)
        tokens = prompt + answer * size.choices
        by_token = max((_by_token(pool.price, prompt, answer * size.choices) for pool in self._pools), default=0)
        return Use(tokens, max(by_token, int(tokens * self._most_nano_usd_per_token * SAFETY)))

    def _images(self, price: Price, prompt: int, size: Size) -> int:
        """Return the most that images may cost at a pool of this price, in nano-dollars."""
        seconds = size.pixel_steps * self._seconds_per_pixel_step * SAFETY
        by_step = size.pixel_steps * price.nano_usd_per_image_step_megapixel // 1_000_000
        return _by_token(price, prompt, 0) + by_step + int(price.nano_usd_per_replica_hour * seconds / 3600.0)

    def learn(self, size: Size, settled: Settled, price: Price, *, streamed: bool) -> None:
        """Note an attempt that was settled, at a pool of this price; those that failed say nothing."""
        if settled.outcome is not Outcome.OK:
            return
        self._seen += 1
        learning = max(LEARNING, 1.0 / (self._seen + 1))
        self.nano_usd += learning * (settled.cost_nano_usd - self.nano_usd)
        if size.pixel_steps:
            seen = settled.duration_ns / 1e9 / size.pixel_steps
            self._seconds_per_pixel_step += learning * (seen - self._seconds_per_pixel_step)
            return
        self._learn_prompt(size, settled, learning, streamed=streamed)
        self._learn_answer(size, settled, learning, streamed=streamed)
        tokens = settled.tokens_in + settled.tokens_out
        if price.nano_usd_per_replica_hour and tokens:  # a price by the token is known beforehand
            rent = settled.cost_nano_usd / tokens
            self._most_nano_usd_per_token = max(rent, self._most_nano_usd_per_token * FORGETTING)

    def _learn_prompt(self, size: Size, settled: Settled, learning: float, *, streamed: bool) -> None:
        if settled.tokens_in:
            per_byte = settled.tokens_in / max(size.body_bytes, 1)
            self._per_byte += learning * (per_byte - self._per_byte)
            self._most_per_byte = max(per_byte, self._most_per_byte * FORGETTING)
        if streamed and settled.first_token_ns:
            predicted = self._first_token.predicted_s(int(size.body_bytes * self._per_byte))
            self._first_token.observed(predicted, settled.first_token_ns / 1e9)

    def _learn_answer(self, size: Size, settled: Settled, learning: float, *, streamed: bool) -> None:
        made = settled.tokens_out
        if not made:
            return
        writing_ns = settled.duration_ns - (settled.first_token_ns if streamed else 0)
        per_token = max(writing_ns / 1e9 / made, LEAST_LEARNED_S)
        self._seconds_per_token += learning * (per_token - self._seconds_per_token)
        if size.most_tokens is None:
            self._answer_tokens += learning * (made - self._answer_tokens)
            self._most_answer = max(made / size.choices, self._most_answer * FORGETTING)
        elif size.most_tokens:
            part = min(made / (size.most_tokens * size.choices), 1.0)
            self._answer_part += learning * (part - self._answer_part)


def _by_token(price: Price, tokens_in: int, tokens_out: int) -> int:
    prompt = tokens_in * max(price.nano_usd_per_million_input_tokens, price.nano_usd_per_million_cached_tokens)
    return (prompt + tokens_out * price.nano_usd_per_million_output_tokens) // 1_000_000
