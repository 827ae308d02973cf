"""Replay a trace of conversations through the gateway's own router over replicas with queues and prefix caches.

    .venv/bin/python -m benchmarks.prefix_router TRACE.jsonl [--replicas 8] [--cache-blocks 5000]

TRACE is as in `benchmarks/prefix_affinity.py`. A replica reads prompts one after another, all but what it has cached,
and writes answers side by side. The router is told what the gateway would tell it: the first blocks of the prompt, and
work guessed from the prompt's length and from answers before it. It sees who answers what, as the gateway does.
"""

import argparse
import heapq
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.prefix_affinity import BLOCK_TOKENS, PROMPT_TOKENS_PER_S, TOKEN_S, CachingReplica, Row, read, spread

from secondsource.core.fleet import Fleet, Pool, Supplier
from secondsource.policy.prefix_affinity import MOST_DEPTH
from secondsource.policy.replica import Replica
from secondsource.policy.routing import Need, Router, Wanted

BYTES_PER_TOKEN = 4
LEARNING = 0.05
WINDOW_S = 300.0
MODEL = "chat"


@dataclass
class Seen:
    """What came of a replay; loads in seconds of work, by replica."""

    hit_blocks: int = 0
    work_s: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    windows: dict[int, list[float]] = field(default_factory=dict)
    first_token_s: list[float] = field(default_factory=list)
    most_at_once: int = 0


class World:
    """The router and its replicas, in the time of the trace."""

    def __init__(self, count: int, cache_blocks: int, pools: Sequence[Pool]) -> None:
        suppliers = tuple(Supplier(name=name) for name in dict.fromkeys(pool.supplier for pool in pools))
        self.router = Router(Fleet(suppliers=suppliers, pools=tuple(pools)), Random(1))  # noqa: S311 -- a fixed seed
        self.places = {replica: place for place, replica in enumerate(self.router.replicas)}
        self.caches = [CachingReplica(cache_blocks) for _ in range(count)]
        self.reads_until = [0.0] * count
        self.answer_tokens = 256.0
        self.seen = Seen(work_s=[0.0] * count, requests=[0] * count)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def replay(self, rows: Sequence[Row]) -> Seen:
        """Ask for every row when it came."""
        for row in rows:
            now = row.timestamp / 1000.0
            while self._events and self._events[0][0] <= now:
                heapq.heappop(self._events)[2]()
            self._ask(row, now)
        return self.seen

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    def _ask(self, row: Row, now: float) -> None:
        expected = row.input_length / PROMPT_TOKENS_PER_S + self.answer_tokens * TOKEN_S
        whole = row.hash_ids[: row.input_length // BLOCK_TOKENS][:MOST_DEPTH]
        need = Need(expected, 1, tuple(spread(block) for block in whole))
        replica = self.router.choose(Wanted(MODEL, need=need), now)
        assert isinstance(replica, Replica), "no limit was set"
        place, seen, size = self.places[replica], self.seen, row.input_length * BYTES_PER_TOKEN
        hits = self.caches[place].hits(row.hash_ids)
        reading = max(row.input_length - hits * BLOCK_TOKENS, 0) / PROMPT_TOKENS_PER_S
        writing = row.output_length * TOKEN_S
        first_token = self.reads_until[place] = max(now, self.reads_until[place]) + reading
        replica.sent(size, now)

        def read_whole() -> None:
            replica.has_read(size, first_token)

        def ended() -> None:
            replica.in_flight -= 1
            self.answer_tokens += LEARNING * (row.output_length - self.answer_tokens)

        self._at(first_token, read_whole)
        self._at(first_token + writing, ended)
        seen.hit_blocks += hits
        seen.work_s[place] += reading + writing
        seen.requests[place] += 1
        seen.windows.setdefault(int(now // WINDOW_S), [0.0] * len(self.caches))[place] += reading + writing
        seen.first_token_s.append(first_token - now)
        seen.most_at_once = max(seen.most_at_once, replica.in_flight)


def pools(count: int, *, two: bool) -> list[Pool]:
    """Return one pool of all replicas, or two suppliers' that share them by their weights, three to one."""
    parts = {"one": count} if not two else {"one": count - count // 4, "two": count // 4}
    return [
        Pool(
            name=name,
            supplier=name,
            chip="h100-sxm",
            model=MODEL,
            upstream_model=MODEL,
            replicas=tuple(f"http://{name}-{number}.test" for number in range(each)),
            weight=float(each),
        )
        for name, each in parts.items()
    ]


def over_mean(loads: Sequence[float]) -> float:
    """Return the largest load over the mean."""
    return max(loads) / (sum(loads) / len(loads))


def main() -> None:
    """Print what the router made of a trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--cache-blocks", type=int, default=5_000, help="of 512 tokens, at each replica")
    arguments = parser.parse_args()
    rows, count = read(arguments.trace), arguments.replicas
    infinite = CachingReplica(10**9)
    most = sum(infinite.hits(row.hash_ids) for row in rows)
    for two in (False, True):
        seen = World(count, arguments.cache_blocks, pools(count, two=two)).replay(rows)
        waits = sorted(seen.first_token_s)
        said = {
            "pools": 1 + two,
            "hits_of_infinite": round(seen.hit_blocks / most, 4),
            "largest_load_over_mean": round(over_mean(seen.work_s), 4),
            "largest_requests_over_mean": round(over_mean(seen.requests), 4),
            "largest_load_over_mean_in_any_five_minutes": round(max(map(over_mean, seen.windows.values())), 4),
            "ttft_s_p50": round(waits[len(waits) // 2], 3),
            "ttft_s_p99": round(waits[int(0.99 * len(waits))], 3),
            "most_at_once": seen.most_at_once,
        }
        print(json.dumps(said))  # noqa: T201


if __name__ == "__main__":
    main()
