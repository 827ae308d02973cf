"""The last five minutes of traffic, in bins of five seconds, from the lines of the request log."""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from secondsource.console.incidents import Incidents, missed, per_token_s
from secondsource.console.quantiles import bucket_of, quantile_s
from secondsource.core.fleet import Lane
from secondsource.gateway.request_log import RequestLine

BIN_S = 5
BINS = 60
MOST_LINES = 200  # of a kind, read at a time, a second of traffic; of more every so-manieth stands for the rest
NOT_REFUSED, ANSWERED, TRIED = b'"refusal":null', b'"status":200', b'"outcome":"ok"'
_DECODER = msgspec.json.Decoder(RequestLine)


class BinQuantiles(NamedTuple):
    """Seconds to the first token, and per further token; None of none."""

    ttft_s_p50: float | None
    ttft_s_p99: float | None
    tpot_s_p50: float | None


class LaneBin:
    """What a lane's requests that ended within a bin came to."""

    __slots__ = ("_quantiles", "_quantiles_of", "first_token", "good", "per_token", "refused", "requests", "tokens_out")

    def __init__(self) -> None:
        self.requests = 0  # that ended, refused ones not counted
        self.good = 0  # answered, within what the lane promises
        self.refused = 0
        self.tokens_out = 0
        self.first_token: Counter[int] = Counter()  # by bucket
        self.per_token: Counter[int] = Counter()
        self._quantiles_of = -1  # so many requests
        self._quantiles = BinQuantiles(None, None, None)

    def quantiles(self) -> "BinQuantiles":
        """Return the bin's quantiles; those of a bin that is over are worked out once."""
        if self._quantiles_of != self.requests:
            self._quantiles_of = self.requests
            ttft, tpot = self.first_token, self.per_token
            self._quantiles = BinQuantiles(quantile_s(ttft, 0.5), quantile_s(ttft, 0.99), quantile_s(tpot, 0.5))
        return self._quantiles


class Made:
    """What attempts of one lane at one pool came to within a bin."""

    __slots__ = ("attempts", "cost_nano_usd", "failed", "tokens_out")

    def __init__(self) -> None:
        self.attempts = 0
        self.failed = 0
        self.tokens_out = 0
        self.cost_nano_usd = 0


class Bin:
    """Five seconds."""

    __slots__ = ("lanes", "made", "number")

    def __init__(self, number: int) -> None:
        self.number = number  # whole bins since 1970
        self.lanes: defaultdict[str, LaneBin] = defaultdict(LaneBin)
        self.made: defaultdict[tuple[str, str], Made] = defaultdict(Made)  # by lane and pool


class Window:
    """The newest bins, and the newest incidents."""

    def __init__(self, lanes: tuple[Lane, ...]) -> None:
        self._lanes = {lane.name: lane for lane in lanes}
        self._bins: dict[int, Bin] = {}
        self.incidents = Incidents(lanes)

    def take(self, lines: Sequence[bytes], most: int = MOST_LINES) -> None:
        """Count some lines of the log; what is no line of ours is passed over."""
        ordinary: list[bytes] = []
        others: list[bytes] = []
        for line in lines:
            (ordinary if is_ordinary(line) else others).append(line)
        for kind in (ordinary, others):
            step = 1 + len(kind) // most
            for line in kind[::step]:
                self._count(line, step)

    def bins(self, now: float | None = None) -> list[Bin]:
        """Return the bins of the last five minutes, oldest first, the one that has just begun last."""
        newest = int((time.time() if now is None else now) // BIN_S)
        for number in [number for number in self._bins if number <= newest - BINS]:
            del self._bins[number]
        return [self._bins.get(number) or Bin(number) for number in range(newest - BINS + 1, newest + 1)]

    def _count(self, data: bytes, weight: int) -> None:
        try:
            line = _DECODER.decode(data)
        except msgspec.DecodeError:
            return
        number = _bin_of(line.at)
        found = self._bins.get(number)
        if found is None:
            found = self._bins[number] = Bin(number)
        self.incidents.note(line, weight)
        lane = found.lanes[line.lane]
        if line.refusal is not None:
            lane.refused += weight * (line.status in (429, 503))
            return
        if not line.endpoint.startswith("/v1/") or line.method != "POST":
            return
        lane.requests += weight
        lane.tokens_out += weight * line.tokens_out
        lane.good += weight * (line.status == 200 and not missed(line, self._lanes.get(line.lane)))
        if line.first_token_s is not None:
            lane.first_token[bucket_of(line.first_token_s)] += weight
            if (tpot := per_token_s(line)) is not None:
                lane.per_token[bucket_of(tpot)] += weight
        for tried in line.attempts:
            made = found.made[line.lane, tried.pool]
            made.attempts += weight
            made.failed += weight * (tried.outcome != "ok")
            made.tokens_out += weight * tried.tokens_out
            made.cost_nano_usd += weight * tried.cost_nano_usd


def is_ordinary(line: bytes) -> bool:
    """Return whether a line tells of a request that one attempt answered, without reading it."""
    # 200 twice: the client got it, and the one replica gave it.
    return NOT_REFUSED in line and line.count(ANSWERED) == 2 and line.count(b'"outcome"') == line.count(TRIED) == 1


def _bin_of(at: datetime) -> int:
    return int(at.timestamp()) // BIN_S
