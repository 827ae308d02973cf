"""How many attempts a replica can bear at once: found out from its answers, and from what it says of itself.

Additive increase while answers come as fast as expected and the limit is what holds traffic back; multiplicative
decrease when it answers 429, when answers take much longer than expected, or when its own report says that requests
wait there or that its cache is full. Never above the pool's `max_concurrency`; where there is none, no limit before
the first sign of overload. Times are seconds on the caller's clock.
"""

from math import floor, inf
from typing import NamedTuple

LEAST = 1.0
CUT = 0.7  # of the limit is kept after a sign of overload
SLOW = 2.0  # times the usual: answers that mostly take this long are a sign of overload
LEAST_EXCESS_S = 0.5  # over the usual, on average: below it nobody is much worse off, and it may be mere noise
LATE_LEARNING = 0.1
FASTER_LEARNING, SLOWER_LEARNING = 0.05, 0.0005  # of what is usual: overload that lasts must not become usual
RECENT_LEARNING = 0.05  # one long prompt before some short ones is no overload
SETTLES_S = 2.0  # between two cuts: what was under way at the first says the same again
CALM_S = 10.0  # after a cut without another: what it took is given back, used or not
FULL_CACHE = 0.95
MOST_REPORTED = 1e9
RETURN = 0.5  # of the way back to where the last cut was made, with as many good answers as the limit allows at once
NEARLY_USED = 0.8  # of the limit: below it, answers say nothing of whether more could be borne


class LoadReport(NamedTuple):
    """What a replica says of itself; None is what it does not say."""

    waiting: int | None = None  # vLLM's num_requests_waiting
    cache_used: float | None = None  # 0 to 1: vLLM's kv_cache_usage_perc
    utilisation: float | None = None  # ORCA's application_utilization; above 1 is overload


class ConcurrencyLimit:
    """The adaptive limit of one replica."""

    __slots__ = ("_before", "_cut_at", "_excess_s", "_late", "_limit", "_most", "_recent", "_usual")

    def __init__(self, max_concurrency: int | None = None) -> None:
        self._limit = self._most = inf if max_concurrency is None else float(max_concurrency)
        self._cut_at = float("-inf")
        self._usual = 0.0  # seconds over what was expected, as it mostly is
        self._recent = 0.0
        self._excess_s = 0.0  # of late
        self._before = 0.0  # the limit before the last cut
        self._late = 0.0  # which part of late answers were written more slowly than was promised

    def reload(self, max_concurrency: int | None) -> None:
        """Take another bound; a limit that was at the old one, or is above the new one, is at the new one."""
        most = inf if max_concurrency is None else float(max_concurrency)
        self._limit = most if self._limit >= self._most else min(self._limit, most)
        self._most = most

    @property
    def limit(self) -> float:
        """The most attempts in flight now: a whole number, or infinity."""
        return self._limit if self._limit == inf else floor(self._limit)

    @property
    def uncut(self) -> bool:
        """Whether all that may be in flight is borne."""
        return self._limit >= self._most

    def answered(self, took_s: float, expected_s: float, in_flight: int, now: float) -> None:
        """Note an answer, or a first token, and how long one of its size was expected to take."""
        ratio = took_s / max(expected_s, 1e-3)
        if not self._usual:
            self._usual = self._recent = ratio
        self._recent += RECENT_LEARNING * (ratio - self._recent)
        if now - self._cut_at < SETTLES_S:
            return  # asked before the cut, or among what was
        self._excess_s += RECENT_LEARNING * (took_s - self._usual * expected_s - self._excess_s)
        if self._recent > SLOW * self._usual and self._excess_s >= LEAST_EXCESS_S:
            self._cut(in_flight, now)
            return
        learning = FASTER_LEARNING if self._recent < self._usual else SLOWER_LEARNING
        self._usual += learning * (self._recent - self._usual)
        falsely = self._limit < self._before and now - self._cut_at >= CALM_S  # cut, and nothing has confirmed it
        if falsely or in_flight >= NEARLY_USED * self._limit:
            step = max(1.0, (self._before - self._limit) * RETURN)
            self._limit = min(self._limit + step / max(self._limit, 1.0), self._most)

    def wrote(self, per_token_s: float, promised_s: float, in_flight: int, now: float) -> None:
        """Note how long a token took on average; more of them than not over what the lane promises is overload."""
        self._late += LATE_LEARNING * ((per_token_s > promised_s) - self._late)
        if self._late > 0.5:
            self._cut(in_flight, now)

    def throttled(self, in_flight: int, now: float) -> None:
        """Note a 429."""
        self._cut(in_flight, now)

    def reported(self, report: LoadReport, in_flight: int, now: float) -> None:
        """Note a replica's own report: requests that wait there are better kept waiting here."""
        if report.waiting:
            self._limit = max(min(self._limit, float(in_flight - report.waiting)), LEAST)
        full = report.cache_used is not None and report.cache_used >= FULL_CACHE
        if full or (report.utilisation is not None and report.utilisation > 1.0):
            self._cut(in_flight, now)

    def _cut(self, in_flight: int, now: float) -> None:
        if now - self._cut_at >= SETTLES_S:
            self._cut_at = now
            self._recent, self._excess_s = self._usual, 0.0  # it is what comes now that counts
            held = float(in_flight) if self._limit == inf else self._limit
            self._before = held
            self._limit = max(held * CUT, LEAST)


def read_orca(header: str) -> LoadReport:
    """Return the report of an `endpoint-load-metrics` header in its text form; what is not understood is left out."""
    text = header.strip().removeprefix("TEXT").strip()
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        number = _number(value)
        if number is not None:
            found[name.strip()] = number
    waiting = found.get("named_metrics.num_requests_waiting")
    return LoadReport(
        waiting=None if waiting is None else int(waiting),
        cache_used=found.get("named_metrics.kv_cache_usage_perc"),
        utilisation=found.get("application_utilization"),
    )


def read_vllm_metrics(text: str) -> LoadReport:
    """Return the report of vLLM's `/metrics` page, its engines' requests added up and their fullest cache taken."""
    waiting: list[float] = []
    used: list[float] = []
    for line in text.splitlines():
        for name, values in (("vllm:num_requests_waiting", waiting), ("vllm:kv_cache_usage_perc", used)):
            if line.startswith((name + "{", name + " ")):
                number = _number(line.rpartition(" ")[2])
                if number is not None:
                    values.append(number)
    return LoadReport(waiting=int(sum(waiting)) if waiting else None, cache_used=max(used) if used else None)


def _number(text: str) -> float | None:
    """Return a number that a replica may report, or None for anything else: it is not to be trusted with our loop."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0.0 <= number < MOST_REPORTED else None
