"""What is measured, of whom, and what came of it."""

from enum import StrEnum

import msgspec


class Load(StrEnum):
    """Which client makes a row's load."""

    PLAIN = "plain"  # wrk: closed loop, no streams
    STREAMS = "streams"  # our client: closed loop, every event judged


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement that every gateway goes through."""

    name: str
    title: str
    load: Load
    connections: int
    warm_s: float
    window_s: float
    prompt_bytes: int = 64
    events: int = 0  # of each stream
    every_us: int = 0  # between two events of a stream; 0: as fast as it goes


class Slice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one row was for one gateway in one round. Rates are per second of the window, times microseconds."""

    gateway: str
    version: str
    row: str
    round: int
    window_s: float
    done: int  # whole answers; for streams, events
    failed: int  # answers refused, cut or out of order
    cpu_s: float  # of the gateway's processes, within the window
    rss_bytes: int  # of the gateway's processes, after the window
    p50_us: float | None  # of a plain answer, or to a stream's first byte
    p99_us: float | None
    delay_p50_us: float | None = None  # of an event, from the replica's send to the client's receive
    delay_p99_us: float | None = None
    stolen_s: float = 0.0  # that the machine's host took the gateway's core away within the window
    example: str = ""  # the first answer that was refused

    @property
    def rate(self) -> float:
        """Answers, or events, a second."""
        return self.done / self.window_s

    @property
    def cpu_us(self) -> float | None:
        """CPU microseconds of the gateway for each answer, or event; None without any."""
        return 1e6 * self.cpu_s / self.done if self.done and self.cpu_s else None


ROWS = (
    Row(name="plain-1", title="1 connection", load=Load.PLAIN, connections=1, warm_s=1, window_s=4),
    Row(name="plain-64", title="64 connections", load=Load.PLAIN, connections=64, warm_s=1, window_s=6),
    Row(name="plain-256", title="256 connections", load=Load.PLAIN, connections=256, warm_s=1, window_s=6),
    Row(
        name="prompts-32k",
        title="64 connections, prompts of 32 kB",
        load=Load.PLAIN,
        connections=64,
        warm_s=1,
        window_s=5,
        prompt_bytes=32 * 1024,
    ),
    Row(
        name="saturated",
        title="64 streams of 100 events, as fast as they go",
        load=Load.STREAMS,
        connections=64,
        warm_s=1,
        window_s=5,
        events=100,
    ),
    Row(
        name="paced",
        title="500 streams of 100 events, one every 50 ms",
        load=Load.STREAMS,
        connections=500,
        warm_s=6,
        window_s=10,
        events=100,
        every_us=50_000,
    ),
)
