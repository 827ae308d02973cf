"""A linear model as sparse columns and rows, each row with the statements it stands for.

Neutral of any solver: `planner.solve` hands it on. Rows are kept as (columns, coefficients) pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class Tag:
    """What a row says: a family, a subject within it, a month, and the SPEC's statements it rests on.

    A row whose statements are not all in force is dropped; one without statements holds by arithmetic.
    """

    family: str
    subject: str
    month: int | None = None
    case: str = ""
    statements: tuple[str, ...] = ()


@dataclass(slots=True)
class Sparse:
    """A model being built: minimise cost, subject to `lower <= row <= upper` and column bounds."""

    cost: list[float] = field(default_factory=list)
    column_lower: list[float] = field(default_factory=list)
    column_upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    row_lower: list[float] = field(default_factory=list)
    row_upper: list[float] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    indices: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def column(self, lower: float = 0.0, upper: float = INFINITY, integer: bool = False) -> int:
        """Add a column without cost and return its index."""
        self.cost.append(0.0)
        self.column_lower.append(lower)
        self.column_upper.append(upper)
        self.integer.append(integer)
        return len(self.cost) - 1

    def row(self, tag: Tag, terms: Iterable[tuple[int, float]], lower: float, upper: float) -> int:
        """Add a row of (column, coefficient) terms, each column at most once, and return its index."""
        for column, value in terms:
            if value != 0.0:
                self.indices.append(column)
                self.values.append(value)
        self.starts.append(len(self.indices))
        self.row_lower.append(lower)
        self.row_upper.append(upper)
        self.tags.append(tag)
        return len(self.tags) - 1

    def statements(self) -> tuple[str, ...]:
        """Return every statement some row rests on, in the order they were first used."""
        return tuple(dict.fromkeys(key for tag in self.tags for key in tag.statements))

    def without(self, dropped: frozenset[str]) -> "Sparse":
        """Return the model with each row freed that rests on a dropped statement (bounds made infinite)."""
        freed = [not dropped.isdisjoint(tag.statements) for tag in self.tags]
        return Sparse(
            cost=self.cost,
            column_lower=self.column_lower,
            column_upper=self.column_upper,
            integer=self.integer,
            row_lower=[-INFINITY if free else value for free, value in zip(freed, self.row_lower, strict=True)],
            row_upper=[INFINITY if free else value for free, value in zip(freed, self.row_upper, strict=True)],
            tags=self.tags,
            starts=self.starts,
            indices=self.indices,
            values=self.values,
        )

    def terms(self, row: int) -> list[tuple[int, float]]:
        """Return a row's (column, coefficient) terms."""
        span = slice(self.starts[row], self.starts[row + 1])
        return list(zip(self.indices[span], self.values[span], strict=True))

    def activity(self, row: int, point: Sequence[float]) -> float:
        """Return a row's value at a point."""
        return sum(value * point[column] for column, value in self.terms(row))
