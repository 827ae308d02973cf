"""The errors found on published figures, as `benchmarks/port_published_points.py` writes them."""

import tomllib
from functools import cache
from importlib.resources import files

import msgspec

from secondsource.port.report import Error


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    figure: str
    chip: str
    median: float
    p90: float
    points: int
    source: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    accuracies: tuple[_Row, ...]


@cache
def _rows() -> tuple[_Row, ...]:
    text = (files("secondsource.port") / "data" / "accuracy.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), _File).accuracies


def expected_error(figure: str, chip: str) -> Error:
    """Return the error to expect of a compiled figure on a chip; another chip's where nobody published this one's."""
    rows = [row for row in _rows() if row.figure == figure]
    own = [row for row in rows if row.chip == chip]
    if own:
        row = own[0]
        return Error(median=row.median, p90=row.p90, points=row.points, source=row.source)
    if rows:
        row = max(rows, key=lambda each: each.median)
        source = f"nothing published for {chip}; the widest found elsewhere, on {row.chip}: {row.source}"
        return Error(median=row.median, p90=row.p90, points=0, source=source)
    return Error(median=None, p90=None, points=0, source="nobody has published such a figure")
