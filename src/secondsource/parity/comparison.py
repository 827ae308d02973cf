"""Two pools' answers to one probe, compared position by position for as long as what stands before is the same.

Log probabilities are natural, gaps in nats. `a` is the pool under test, `b` the one it is held against.
"""

import math

import msgspec

from secondsource.parity.probes import RAW, STRUCTURED, Field, Kind, Probe
from secondsource.parity.wire import Answer, Position

COMPARED_CHARACTERS = 40  # of two texts without logprobs: about ten tokens
TIE = 1e-3
UNLIKELY = -30.0  # stands for a probability of nothing


class Pair(msgspec.Struct, frozen=True, array_like=True):
    """Both answers to the same request."""

    a: Answer
    b: Answer


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """All that was asked of both pools for one probe."""

    kind: Kind
    number: int
    replica_a: str
    replica_b: str
    pairs: tuple[Pair, ...]  # the first, and further ones from where the two had parted, on the text of `b`
    sampled: Pair | None = None  # the same at temperature 1


class Spot(msgspec.Struct, frozen=True):
    """One position at which both pools stood before the same text."""

    place: int  # tokens of the answer before it
    agrees: bool  # on the likeliest token
    gap: float  # largest difference in log probability, over the two pools' likeliest tokens
    divergence: float  # Kullback-Leibler of a from b, at least: over the tokens that both list, and the rest as one


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What one probe says. None stands for nothing that could be said."""

    kind: Kind
    number: int
    replica: str  # of the pool under test
    answered: tuple[bool, bool]
    refused: str | None = None  # what `a` said when it refused what `b` answered
    spots: tuple[Spot, ...] = ()
    same_text: bool | None = None
    strays: bool | None = None  # whether `a`, at temperature 0, said something else than its own likeliest token
    prompt_tokens: tuple[int, int] | None = None
    answer_tokens: tuple[int, int] | None = None
    valid: tuple[bool, bool] | None = None  # what was to follow a schema
    one_voiced: tuple[bool, bool] | None = None  # whether temperature 1 said the same as temperature 0

    @property
    def gap(self) -> float:
        """The root mean square of the positions' gaps, 0 without any: one odd token decides nothing."""
        return math.sqrt(sum(spot.gap**2 for spot in self.spots) / max(1, len(self.spots)))


def compare(probe: Probe, exchange: Exchange) -> Comparison:
    """Return what the exchange over a probe says."""
    first = exchange.pairs[0]
    a, b = first.a, first.b
    both = a.status == b.status == 200
    known = both and a.prompt_tokens is not None and b.prompt_tokens is not None
    counted = both and a.answer_tokens is not None and b.answer_tokens is not None
    listed = both and bool(a.positions and b.positions)
    return Comparison(
        kind=exchange.kind,
        number=exchange.number,
        replica=exchange.replica_a,
        answered=(a.status == 200, b.status == 200),
        refused=a.error or f"HTTP {a.status}" if b.status == 200 and 400 <= a.status < 500 else None,
        spots=_all_spots(exchange) if both else (),
        same_text=_same_text(a, b) if both and not listed and exchange.kind not in STRUCTURED else None,
        strays=_strays(a) if listed and exchange.kind not in STRUCTURED else None,
        prompt_tokens=(a.prompt_tokens or 0, b.prompt_tokens or 0) if known else None,
        answer_tokens=(a.answer_tokens or 0, b.answer_tokens or 0) if counted else None,
        valid=(_is_valid(a, probe), _is_valid(b, probe)) if both and probe.fields else None,
        one_voiced=_one_voiced(first, exchange.sampled) if both and exchange.sampled is not None else None,
    )


def parted_at(pair: Pair) -> int | None:
    """Return the place at which the two first chose differently, or None."""
    for place, (one, other) in enumerate(zip(pair.a.positions, pair.b.positions, strict=False)):
        if one.chosen != other.chosen:
            return place
    return None


def _all_spots(exchange: Exchange) -> tuple[Spot, ...]:
    spots: list[Spot] = []
    before = 0
    for pair in exchange.pairs:
        # What a grammar let through is not what the reported tokens say, so only the first place is surely the same.
        most = 1 if exchange.kind in STRUCTURED else None
        found = _spots(pair, before, most)
        spots += found
        before += len(found)
    return tuple(spots)


def _spots(pair: Pair, before: int, most: int | None) -> list[Spot]:
    parted = parted_at(pair)
    shared = min(len(pair.a.positions), len(pair.b.positions))
    end = shared if parted is None else parted + _is_shared(pair, parted)
    places = range(end if most is None else min(end, most))
    return [_spot(before + place, pair.a.positions[place], pair.b.positions[place]) for place in places]


def _is_shared(pair: Pair, place: int) -> bool:
    """Return whether both list whole tokens there: llama.cpp tells of a character in several tokens only the last."""
    return not any(_is_fragment(side.positions[place]) for side in (pair.a, pair.b))


def _is_fragment(position: Position) -> bool:
    try:
        for text in (position.chosen, *(token.text for token in position.top[:1])):
            text.decode()
    except UnicodeDecodeError:
        return True
    return False


def _spot(place: int, a: Position, b: Position) -> Spot:
    if not a.top or not b.top:
        return Spot(place, a.chosen == b.chosen, 0.0, 0.0)
    in_a, in_b = ({token.text: token.logprob for token in each.top} for each in (a, b))
    best_a, best_b = a.top[0].text, b.top[0].text
    gap = max(_gap(in_a, in_b, best_b), _gap(in_b, in_a, best_a))
    return Spot(place, best_a == best_b, gap, _divergence(in_a, in_b))


def _gap(in_other: dict[bytes, float], in_own: dict[bytes, float], token: bytes) -> float:
    """Return the difference for a token that its own side lists; where the other does not, what is sure of it."""
    own = in_own[token]
    if token in in_other:
        return abs(in_other[token] - own)
    return max(0.0, own - min(in_other.values()))


def _divergence(in_a: dict[bytes, float], in_b: dict[bytes, float]) -> float:
    """Return sum p_b (log p_b - log p_a) over the tokens both list and the rest, which can only be too small."""
    common = in_a.keys() & in_b.keys()
    total = sum(math.exp(in_b[token]) * (in_b[token] - in_a[token]) for token in common)
    rest_a, rest_b = (1.0 - sum(math.exp(each[token]) for token in common) for each in (in_a, in_b))
    if rest_b > 1e-9:
        total += rest_b * (math.log(rest_b) - (math.log(rest_a) if rest_a > 0 else UNLIKELY))
    return max(0.0, total)


def _same_text(a: Answer, b: Answer) -> bool:
    return a.text[:COMPARED_CHARACTERS] == b.text[:COMPARED_CHARACTERS]


def _strays(a: Answer) -> bool:
    return any(_is_stray(each) for each in a.positions)


def _is_stray(position: Position) -> bool:
    """Return whether another token was chosen than the likeliest, which it was not tied with; both are listed."""
    listed = {token.text: token.logprob for token in position.top}
    return position.chosen in listed and max(listed.values()) - listed[position.chosen] > TIE


def _one_voiced(greedy: Pair, sampled: Pair) -> tuple[bool, bool] | None:
    if sampled.a.status != 200 or sampled.b.status != 200:
        return None
    return greedy.a.text == sampled.a.text, greedy.b.text == sampled.b.text


def _is_valid(answer: Answer, probe: Probe) -> bool:
    if not probe.tool:
        return _follows(answer.text, probe.fields)
    return any(call.name == probe.tool and _follows(call.arguments, probe.fields) for call in answer.calls)


def _follows(text: str, fields: tuple[Field, ...]) -> bool:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    kinds: dict[str, type] = {"string": str, "integer": int}
    return (
        isinstance(found, dict)
        and found.keys() == {field.name for field in fields}
        and all(type(found[field.name]) is kinds[field.type] for field in fields)
    )


def can_go_on(exchange: Exchange) -> str | None:
    """Return the text of `b` through where a raw completion's two answers parted, or None when there is no more."""
    last = exchange.pairs[-1]
    parted = parted_at(last)
    if exchange.kind not in RAW or parted is None or parted + 1 >= len(last.b.positions):
        return None
    try:
        return b"".join(each.chosen for each in last.b.positions[: parted + 1]).decode()
    except UnicodeDecodeError:
        return None  # in the middle of a character
