"""Name the blocks of a trace that only counts them, so that its conversations can be replayed.

    python benchmarks/mooncake_blocks.py TRACE.parquet OUT.jsonl

TRACE has a row for each request with `t_s`, `in_tokens`, `out_tokens`, `n_hash_blocks` (of 512 tokens) and
`prefix_hit_blocks_inf_cache`: how many of its leading blocks an infinite cache had. A request that hit is taken to go
on from the latest earlier one whose whole blocks are exactly as many, that nobody went on from yet, and that with its
answer is no longer than it. OUT is Mooncake's own format, as the other benchmarks read it. Needs pyarrow.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet

BLOCK_TOKENS = 512
TEMPLATE_TOKENS = 600  # by which an answer may be longer than what the next prompt has of it
SHARED = 0  # the block that every conversation begins with


class Naming:
    """Names given so far."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.guessed = 0  # requests that go on from no earlier one that fits
        self._next = SHARED + 1
        self._lengths: list[int] = []  # with the answer, in tokens
        self._by_blocks: defaultdict[int, list[int]] = defaultdict(list)
        self._went_on: set[int] = set()

    def name(self, tokens_in: int, tokens_out: int, blocks: int, hits: int) -> list[int]:
        """Return the ids of the blocks of the next request."""
        known = [SHARED] if not self.rows else self._known(tokens_in, hits)
        row = known + list(range(self._next, self._next + blocks - len(known)))
        self._next += blocks - len(known)
        place = len(self.rows)
        for count in {tokens_in // BLOCK_TOKENS, blocks}:
            self._by_blocks[count].append(place)
        self.rows.append(row)
        self._lengths.append(tokens_in + tokens_out)
        return row

    def _known(self, tokens_in: int, hits: int) -> list[int]:
        if hits <= 1:
            return [SHARED][:hits]
        same = self._by_blocks[hits]
        fits = (
            one
            for one in reversed(same)
            if one not in self._went_on and self._lengths[one] <= tokens_in + TEMPLATE_TOKENS
        )
        before = next(fits, same[-1] if same else None)
        if before is None:
            self.guessed += 1
            before = next(one for one in range(len(self.rows) - 1, -1, -1) if len(self.rows[one]) >= hits)
        else:
            self._went_on.add(before)
        return self.rows[before][:hits]


def infinite_hits(rows: list[list[int]]) -> int:
    """Return how many blocks an infinite cache hits."""
    seen: set[int] = set()
    hits = 0
    for row in rows:
        hits += next((place for place, block in enumerate(row) if block not in seen), len(row))
        seen.update(row)
    return hits


def main() -> None:
    """Write the trace, and print how far it agrees with the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    naming, counted = Naming(), 0
    with arguments.out.open("w") as out:
        for row in pyarrow.parquet.read_table(arguments.trace).to_pylist():
            hits = row["prefix_hit_blocks_inf_cache"]
            counted += hits
            ids = naming.name(row["in_tokens"], row["out_tokens"], row["n_hash_blocks"], hits)
            sizes = {"input_length": row["in_tokens"], "output_length": row["out_tokens"]}
            out.write(json.dumps({"timestamp": row["t_s"] * 1000.0, **sizes, "hash_ids": ids}) + "\n")
    print(  # noqa: T201
        f"{len(naming.rows)} requests, {naming.guessed} guessed; an infinite cache hits {infinite_hits(naming.rows)} "
        f"blocks of the named, {counted} of the counted"
    )


if __name__ == "__main__":
    main()
