"""What the engine is asked for and what it gives back, one answer and one token at a time."""

from typing import NamedTuple

import msgspec


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How one answer is sampled; the defaults change nothing. `temperature` 0 takes the likeliest token."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0  # 32 bits
    bias: tuple[tuple[int, float], ...] = ()  # token and what is added to its logit
    logprobs: bool = False

    @property
    def marks_rows(self) -> bool:
        """Whether the tokens seen so far, or a bias, change what comes next."""
        penalties = self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0
        return bool(penalties or self.bias)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to make: at most `most_tokens` after the prompt, or until one of `ends`."""

    prompt: tuple[int, ...]  # at least one token
    most_tokens: int  # prompt and answer together fit a slot
    ends: frozenset[int] = frozenset()
    sampling: Sampling = Sampling()


class Made(NamedTuple):
    """One token of one answer; `finish` with the last: "stop" at an end token, "length" at the limit.

    `top` is empty unless logprobs were wanted: tokens and logprobs in nats, likeliest first.
    """

    request: int
    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    finish: str | None
