"""Recorded runs, as they were made by `tests.parity_sources.record`, and what tests do with them."""

import gzip
from pathlib import Path
from random import Random

import msgspec

from secondsource.parity.comparison import Exchange, Pair
from secondsource.parity.wire import Answer, Position, Token

DIRECTORY = Path(__file__).parent / "recorded"
KEPT_TOKENS = 6  # of the twenty likeliest at a position


def recorded(name: str) -> list[Exchange]:
    """Return the exchanges of a recorded run."""
    lines = gzip.decompress((DIRECTORY / f"{name}.jsonl.gz").read_bytes()).splitlines()
    return [msgspec.json.decode(line, type=Exchange) for line in lines]


def slim(exchange: Exchange) -> Exchange:
    """Return the exchange with the likeliest tokens of each position only, to the sixth decimal."""
    pairs = tuple(Pair(_slim(pair.a), _slim(pair.b)) for pair in exchange.pairs)
    sampled = exchange.sampled and Pair(
        *(msgspec.structs.replace(one, positions=()) for one in (exchange.sampled.a, exchange.sampled.b))
    )
    return msgspec.structs.replace(exchange, pairs=pairs, sampled=sampled, replica_a="a", replica_b="b")


def _slim(answer: Answer) -> Answer:
    positions = tuple(
        Position(one.chosen, tuple(Token(each.text, round(each.logprob, 6)) for each in one.top[:KEPT_TOKENS]))
        for one in answer.positions
    )
    return msgspec.structs.replace(answer, positions=positions)


def drifted(exchange: Exchange, chance: Random, most: float) -> Exchange:
    """Return the exchange with `a`'s log probabilities moved by at most `most`, the likeliest token kept."""
    pairs = tuple(
        Pair(
            msgspec.structs.replace(pair.a, positions=tuple(_drifted(each, chance, most) for each in pair.a.positions)),
            pair.b,
        )
        for pair in exchange.pairs
    )
    return msgspec.structs.replace(exchange, pairs=pairs)


def _drifted(position: Position, chance: Random, most: float) -> Position:
    first, *rest = (Token(each.text, each.logprob + chance.uniform(-most, most)) for each in position.top)
    kept = (Token(each.text, min(each.logprob, first.logprob)) for each in rest)
    return Position(position.chosen, (first, *sorted(kept, key=lambda token: -token.logprob)))


def without_logprobs(exchange: Exchange) -> Exchange:
    """Return the exchange as it would have been with replicas that give texts alone."""
    first = exchange.pairs[0]
    bare = Pair(*(msgspec.structs.replace(one, positions=()) for one in (first.a, first.b)))
    return msgspec.structs.replace(exchange, pairs=(bare,))
