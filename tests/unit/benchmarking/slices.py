"""Slices for tests: everything said or left at a plain value."""

from typing import Any

from secondsource.benchmarking.records import Slice


def one_slice(gateway: str = "secondsource", row: str = "plain-64", **changes: Any) -> Slice:
    values: dict[str, Any] = {
        "gateway": gateway,
        "version": "1",
        "row": row,
        "round": 1,
        "window_s": 10.0,
        "done": 1000,
        "failed": 0,
        "cpu_s": 0.02,
        "rss_bytes": 50_000_000,
        "p50_us": 100.0,
        "p99_us": 200.0,
    }
    return Slice(**{**values, **changes})
