"""Learn request-size classes from a trace: few classes, each planned for by its mean.

The trace is first counted on a grid of a quarter octave in input and output tokens, so a trace of any
length needs little memory; the grid's cells are then grouped by k-means on the logarithms, started from
quantiles of total size so that the same trace always gives the same classes.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec

from secondsource.core.demand import SizeClass
from secondsource.core.errors import InputError
from secondsource.workload.trace import Arrival

_CELLS_PER_OCTAVE = 4
_ROUNDS = 50


class LearnedClass(msgspec.Struct, frozen=True, kw_only=True):
    """A size class with the share of the trace's requests that fell into it (0 to 1)."""

    size: SizeClass
    share: float


class _Cell(msgspec.Struct):
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def place(self) -> tuple[float, float]:
        """Return the cell's mean as (log input, log output)."""
        return (
            math.log(1 + self.input_tokens / self.requests),
            math.log(1 + self.output_tokens / self.requests),
        )


def learn_classes(arrivals: Iterable[Arrival], count: int, prefix: str) -> tuple[LearnedClass, ...]:
    """Return at most `count` classes named `<prefix>-1`, ... from the smallest to the largest.

    Means are exact over the trace (tokens per request); shares add up to 1. Raises InputError when the
    trace is empty or `count` is not positive.
    """
    if count < 1:
        raise InputError(f"expected at least 1 size class, not {count}")
    cells = _count(arrivals)
    if not cells:
        raise InputError("the trace holds no answered request to learn size classes from")
    places = [cell.place() for cell in cells]
    weights = [cell.requests for cell in cells]
    owners = _group(places, weights, _start(places, weights, count))
    groups = [[cells[i] for i in range(len(cells)) if owners[i] == owner] for owner in sorted(set(owners))]
    total = sum(weights)
    return tuple(_learned(f"{prefix}-{number}", group, total) for number, group in enumerate(groups, start=1))


def _learned(name: str, cells: Sequence[_Cell], total: int) -> LearnedClass:
    requests = sum(cell.requests for cell in cells)
    return LearnedClass(
        size=SizeClass(
            name=name,
            input_tokens=sum(cell.input_tokens for cell in cells) / requests,
            output_tokens=sum(cell.output_tokens for cell in cells) / requests,
        ),
        share=requests / total,
    )


def _count(arrivals: Iterable[Arrival]) -> list[_Cell]:
    grid: dict[tuple[int, int], _Cell] = {}
    for arrival in arrivals:
        key = (_step(arrival.input_tokens), _step(arrival.output_tokens))
        cell = grid.setdefault(key, _Cell())
        cell.requests += 1
        cell.input_tokens += arrival.input_tokens
        cell.output_tokens += arrival.output_tokens
    return sorted(grid.values(), key=lambda cell: sum(cell.place()))


def _step(tokens: int) -> int:
    return int(_CELLS_PER_OCTAVE * math.log2(1 + tokens))


def _start(places: Sequence[tuple[float, float]], weights: Sequence[int], count: int) -> list[tuple[float, float]]:
    """Return the cells in which the middles of `count` equal parts of the requests lie."""
    total = sum(weights)
    wanted = [(part + 0.5) * total / count for part in range(count)]
    starts: list[tuple[float, float]] = []
    seen = 0
    for place, weight in zip(places, weights, strict=True):
        seen += weight
        while wanted and seen >= wanted[0]:
            wanted.pop(0)
            if not starts or starts[-1] != place:
                starts.append(place)
    return starts


def _nearest(place: tuple[float, float], centres: Sequence[tuple[float, float]]) -> int:
    distances = [math.dist(place, centre) for centre in centres]
    return distances.index(min(distances))


def _group(
    places: Sequence[tuple[float, float]], weights: Sequence[int], centres: list[tuple[float, float]]
) -> list[int]:
    """Return each place's group by Lloyd's k-means, until nothing moves."""
    owners: list[int] = []
    for _ in range(_ROUNDS):
        moved = [_nearest(place, centres) for place in places]
        if moved == owners:
            break
        owners = moved
        for k in range(len(centres)):
            members = [i for i, owner in enumerate(owners) if owner == k]
            mass = sum(weights[i] for i in members)
            if mass:
                centres[k] = (
                    sum(weights[i] * places[i][0] for i in members) / mass,
                    sum(weights[i] * places[i][1] for i in members) / mass,
                )
    return owners
