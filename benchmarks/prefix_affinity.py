"""Replay a trace of conversations over simulated replicas with prefix caches, and count cache hits and load.

    .venv/bin/python benchmarks/prefix_affinity.py TRACE.jsonl [--replicas 8] [--cache-blocks 60000]

TRACE is in Mooncake's format: a JSON object a line with `timestamp` (ms), `input_length`, `output_length` and
`hash_ids`, the ids of the prompt's blocks of 512 tokens. A replica keeps its least recently used blocks out, counts a
hit for each leading block that it has, reads the others at a fixed speed and writes its answers side by side.
"""

import argparse
import heapq
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec

from secondsource.policy.prefix_affinity import PrefixAffinity

BLOCK_TOKENS = 512
PROMPT_TOKENS_PER_S = 20_000.0
TOKEN_S = 0.02
WINDOW_S = 300.0


class Row(msgspec.Struct):
    """One request of the trace."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]


@dataclass
class CachingReplica:
    """A replica's prefix cache, and what it is doing."""

    capacity: int
    cache: OrderedDict[int, None] = field(default_factory=OrderedDict)
    in_flight: float = 0.0  # seconds of work

    def hits(self, blocks: Sequence[int]) -> int:
        """Return how many leading blocks are cached, and have all of them cached now."""
        count = 0
        for block in blocks:
            if block not in self.cache:
                break
            count += 1
        for block in reversed(blocks):  # the end of a prompt goes before its beginning
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) > self.capacity:
            self.cache.popitem(last=False)
        return count


@dataclass
class Replay:
    """What came of one trace."""

    hit_blocks: int = 0
    blocks: int = 0
    work_s: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    windows: dict[int, list[float]] = field(default_factory=dict)

    def largest_over_mean(self, loads: Sequence[float]) -> float:
        """Return the largest load over the mean."""
        return max(loads) / (sum(loads) / len(loads))


def spread(block: int) -> int:
    """Return a trace's block id as a hash."""
    return (block * 0x9E37_79B9_7F4A_7C15 + 0x7F4A_7C15) & 0xFFFF_FFFF_FFFF_FFFF


def replay(rows: Iterable[Row], count: int, cache_blocks: int, way: str = "affinity") -> Replay:
    """Send every request of a trace where `way` says: "affinity", "random" or "least" (the least loaded)."""
    affinity = PrefixAffinity([f"replica-{number}" for number in range(count)])
    replicas = [CachingReplica(cache_blocks) for _ in range(count)]
    found = Replay(work_s=[0.0] * count, requests=[0] * count)
    random = Random(1)  # noqa: S311 -- a fixed seed
    ends: list[tuple[float, int, float]] = []
    for row in rows:
        now = row.timestamp / 1000.0
        while ends and ends[0][0] <= now:
            _, place, work = heapq.heappop(ends)
            replicas[place].in_flight -= work
        loads = [replica.in_flight for replica in replicas]
        expected = row.input_length / PROMPT_TOKENS_PER_S + row.output_length * TOKEN_S
        whole = [spread(block) for block in row.hash_ids[: row.input_length // BLOCK_TOKENS]]
        chosen: int | None
        if way == "affinity":
            chosen = affinity.choose(whole, expected, [True] * count, now)
        else:
            chosen = random.randrange(count) if way == "random" else min(range(count), key=loads.__getitem__)
        assert chosen is not None
        hits = replicas[chosen].hits(row.hash_ids)
        uncached = max(row.input_length - hits * BLOCK_TOKENS, 0)
        work = uncached / PROMPT_TOKENS_PER_S + row.output_length * TOKEN_S
        affinity.correct(chosen, work - expected)
        replicas[chosen].in_flight += work
        heapq.heappush(ends, (now + work, chosen, work))
        found.hit_blocks += hits
        found.blocks += len(row.hash_ids)
        found.work_s[chosen] += work
        found.requests[chosen] += 1
        found.windows.setdefault(int(now // WINDOW_S), [0.0] * count)[chosen] += work
    return found


def read(path: Path) -> list[Row]:
    """Return the trace's rows."""
    decoder = msgspec.json.Decoder(Row)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line.strip()]


def main() -> None:
    """Print what each way of choosing makes of a trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--cache-blocks", type=int, default=60_000, help="of 512 tokens, at each replica")
    arguments = parser.parse_args()
    rows = read(arguments.trace)
    infinite = replay(rows, 1, 10**9)
    print(f"{len(rows)} requests, {infinite.blocks} blocks; one infinite cache hits {infinite.hit_blocks}")  # noqa: T201
    for way in ("affinity", "least", "random"):
        found = replay(rows, arguments.replicas, arguments.cache_blocks, way)
        worst = max(found.largest_over_mean(loads) for loads in found.windows.values() if sum(loads) > 0)
        said = {
            "way": way,
            "hits_of_infinite": round(found.hit_blocks / infinite.hit_blocks, 4),
            "largest_load_over_mean": round(found.largest_over_mean(found.work_s), 4),
            "largest_requests_over_mean": round(found.largest_over_mean(found.requests), 4),
            "largest_load_over_mean_in_any_five_minutes": round(worst, 4),
        }
        print(json.dumps(said))  # noqa: T201


if __name__ == "__main__":
    main()
