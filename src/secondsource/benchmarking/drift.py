"""Memory over time: one gateway under a steady load for as long as asked, and the slope of what it holds."""

import time
from collections.abc import Callable, Sequence

import msgspec

from secondsource.benchmarking.arithmetic import slope
from secondsource.benchmarking.loads import StreamResult, run_streams
from secondsource.benchmarking.peers import KEY
from secondsource.benchmarking.records import Load, Row
from secondsource.benchmarking.stage import Candidate

FLAT_SHARE_PER_HOUR = 0.05  # of what is held
_WARM_SHARE = 1 / 3  # of the run: caches and buffers fill
_LEAST_PART_S, _MOST_PART_S = 5.0, 60.0
_PARTS = 30


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What was held at one moment, and what had been done by then."""

    at_s: float
    rss_bytes: int
    streams: int
    failed: int


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway's memory over one run."""

    gateway: str
    version: str
    minutes: float
    samples: tuple[Sample, ...]
    bytes_per_hour: float  # of the line fitted to what follows the first third

    @property
    def flat(self) -> bool:
        """Whether the line rises by less than 5 % an hour of what is held."""
        return self.bytes_per_hour < FLAT_SHARE_PER_HOUR * self.samples[-1].rss_bytes


def steady_load(minutes: float) -> Row:
    """Return one part of the load. At its end every client leaves mid-stream: that must not leak either."""
    part_s = min(max(60 * minutes / _PARTS, _LEAST_PART_S), _MOST_PART_S)
    return Row(
        name="steady",
        title="200 streams of 5 events, one every 50 ms",
        load=Load.STREAMS,
        connections=200,
        warm_s=0,
        window_s=part_s,
        events=5,
        every_us=50_000,
    )


def watch(candidate: Candidate, minutes: float, on_sample: Callable[[Sample], None]) -> Drift:
    """Load the gateway for so many minutes and sample its memory; SecondsourceError if it or the client fails."""
    assert candidate.program is not None
    row = steady_load(minutes)
    began = time.monotonic()
    samples: list[Sample] = []
    streams = failed = 0
    while time.monotonic() - began < 60 * minutes:
        candidate.program.require_alive()
        result, rss = _part(candidate, row)
        streams += result.streams
        failed += result.refused + result.disordered + result.cut + result.unconnected
        samples.append(Sample(at_s=time.monotonic() - began, rss_bytes=rss, streams=streams, failed=failed))
        on_sample(samples[-1])
    return Drift(
        gateway=candidate.name,
        version=candidate.version,
        minutes=minutes,
        samples=tuple(samples),
        bytes_per_hour=drift_per_hour(samples),
    )


def _part(candidate: Candidate, row: Row) -> tuple[StreamResult, int]:
    """Return what one part of the load came to, and the memory held at its end, under load."""
    program = candidate.program
    assert program is not None
    held: list[int] = []
    result = run_streams(row, candidate.port, KEY, lambda: None, lambda: held.append(program.rss_bytes()))
    return result, held[0]


def drift_per_hour(samples: Sequence[Sample]) -> float:
    """Return the bytes an hour by which memory grows once warm, by least squares over what follows the first third."""
    if not samples:
        return 0.0
    warm_from = samples[0].at_s + _WARM_SHARE * (samples[-1].at_s - samples[0].at_s)
    return 3600 * slope([(one.at_s, one.rss_bytes) for one in samples if one.at_s >= warm_from])
