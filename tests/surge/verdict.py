"""What a surge came to: the numbers that are asked of it, from what its clients saw."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.surge.load import FREE, PAID, Client

TTFT_S = {PAID: 2.0, FREE: 10.0}
HONEST = 0.3  # of the promised wait
BLINK_S = 0.3  # that a client's and a gateway's own doing may take beside it


def of_lane(clients: list[Client], lane: str) -> list[Client]:
    """Return a lane's clients."""
    return [one for one in clients if one.lane == lane]


def in_time(clients: list[Client], lane: str, promised_s: Mapping[str, float] = TTFT_S) -> float:
    """Return which part got a whole answer at the first try, begun in the lane's time."""
    mine, most_s = of_lane(clients, lane), promised_s[lane]
    good = sum(one.tries[0].whole and (one.tries[0].first_token_s or 99.0) <= most_s for one in mine if one.tries)
    return good / max(len(mine), 1)


def ttft_s(clients: list[Client], lane: str, part: float) -> float:
    """Return a quantile of the time to the first token, of those who had one."""
    tries = [one.tries[-1] for one in of_lane(clients, lane) if one.tries]
    times = sorted(one.first_token_s for one in tries if one.first_token_s is not None)
    return times[min(int(part * len(times)), len(times) - 1)] if times else float("nan")


@dataclass
class Obedient:
    """What became of those who came back as they were told, once."""

    came_back: int
    got_in_in_time: int  # within 30% of the promised wait
    got_in: int

    @classmethod
    def of(cls, clients: list[Client], prompt_tokens_per_s: float) -> "Obedient":
        """Judge those who were sent away at first and came back once at least."""
        back = [one for one in of_lane(clients, FREE) if len(one.tries) > 1]
        good = 0
        for one in back:
            first, second = one.tries[:2]
            if second.first_token_s is None or first.retry_after is None:
                continue
            let_in_s = second.sent + second.first_token_s - one.prompt_tokens / prompt_tokens_per_s - first.ended
            good += abs(let_in_s - first.retry_after) <= HONEST * first.retry_after + BLINK_S
        return cls(len(back), good, sum(one.served for one in back))
