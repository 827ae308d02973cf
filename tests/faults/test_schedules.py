"""Random schedules of faults over many streams, with an auditor: no answer is lost, ended twice or cut in silence.

A fault depends on the seed, the request and how often it was tried, not on how requests interleave, so that a
failure can be run again; which replica is tried first is the gateway's choice. `--seed N` runs one schedule,
`--streams N` sets its size, and SECONDSOURCE_SOAK=N runs N schedules.
"""

import asyncio
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from tests.faults import language_model as lm
from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.dialects import Dialect
from tests.faults.fault import BEFORE_ANSWER, BREAKS_STREAM, HEALTHY, ODD_BUT_WHOLE, Fault, Kind
from tests.faults.harness import Gateway, Pool
from tests.faults.judge import assert_broken_openly, assert_whole
from tests.faults.language_model import ask, ask_raw
from tests.faults.misbehave import Seen
from tests.faults.raw_client import Received
from tests.faults.wall import Wall

SUITE_SEEDS = (1, 2, 3)
SUITE_STREAMS = 120
AT_ONCE = 12
# Each of these costs a whole time-out, so a schedule has few of them.
SLOW = frozenset({Kind.SILENCE, Kind.STALL, Kind.PINGS, Kind.HEAD_DRIP, Kind.NO_DONE_SILENT, Kind.ENDLESS_LINE})
TIMEOUTS = {"connect": 0.5, "first_token": 0.6, "between_tokens": 0.6, "answer": 1.0, "total": 20.0}
WAYS = (
    (Dialect.VLLM, "prefill"),
    (Dialect.ECHO, "prefill"),
    (Dialect.LLAMACPP, "tokens"),
    (Dialect.VLLM_TOKENS, "tokens"),
    (Dialect.REFUSES, "prefill"),
    (Dialect.VLLM, "none"),
)
FORMS: tuple[dict[str, Any], ...] = (
    *({}, {}, {}, {"max_tokens": 20}, {"stream_options": {"include_usage": True}}),
    *({"n": 2}, {"response_format": {"type": "json_object"}}, {"logprobs": True}),
)


@dataclass
class Schedule:
    """One seed's replicas, requests and faults."""

    seed: int
    streams: int
    random: Random = field(init=False)
    tries: Counter[str] = field(default_factory=Counter)
    trouble: float = field(init=False)  # the share of requests at a replica that go wrong

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.trouble = self.random.choice([0.05, 0.15, 0.3, 0.6])

    def ways(self) -> list[tuple[Dialect, str]]:
        """Return the dialect and the way to continue of each of three suppliers."""
        return [self.random.choice(WAYS) for _ in range(3)]

    def body(self, number: int) -> dict[str, Any]:
        """Return request number `number`."""
        make = ask_raw if self.random.random() < 0.15 else ask
        form = dict(self.random.choice(FORMS)) if make is ask else {}
        size, wide = self.random.choice([20, 120, 400]), self.random.random() < 0.5
        # An engine that gives no token ids sends a character that took it several tokens as one event.
        wide = wide and "max_tokens" not in form
        streamed = self.random.random() < 0.85
        if not streamed:
            form.pop("stream_options", None)
        return make(f"schedule {self.seed} number {number}", size=size, wide=wide, stream=streamed, **form)

    def fault(self, seen: Seen) -> Fault:
        """Draw the fault of one try of one request: the same whenever it comes."""
        number = number_of(seen.body)
        self.tries[number] += 1
        draw = Random(f"{self.seed} {number} {self.tries[number]}")
        if draw.random() >= self.trouble:
            return HEALTHY
        kind = draw.choice(draw.choice([BEFORE_ANSWER, BREAKS_STREAM, BREAKS_STREAM, ODD_BUT_WHOLE]))
        if kind in SLOW and draw.random() < 0.8:
            return HEALTHY
        retry_after = draw.choice([None, "0", "1"])
        return Fault(kind, after_tokens=draw.choice([0, 1, 3, 10, 30]), seconds=0.001, retry_after=retry_after)


def number_of(body: dict[str, Any]) -> str:
    """Return the number of the request that reached a replica."""
    found = re.search(r"number (\d+)", said(body))
    assert found is not None, body
    return found[1]


def said(body: dict[str, Any]) -> str:
    """Return the text of a request, in whatever form it reached a replica."""
    if "messages" in body:
        return lm.text_of(body["messages"][0]["content"])
    prompt = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    parts = [lm.VOCABULARY[part] if isinstance(part, int) else part.encode() for part in prompt]
    return b"".join(parts).decode(errors="replace")


@dataclass
class Auditor:
    """Judges every answer of a schedule, and counts what became of them."""

    schedule: Schedule
    verdicts: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[dict[str, Any], str]] = field(default_factory=list)

    def judge(self, body: dict[str, Any], received: Received) -> None:
        """Judge one answer: whole and undisturbed, or broken and saying so."""
        try:
            if received.looks_whole:
                assert_whole(received, body)
                self.verdicts["whole"] += 1
            else:
                assert_broken_openly(received, body)
                self.verdicts[f"open error {received.status}"] += 1
        except (AssertionError, KeyError, ValueError, pytest.fail.Exception) as error:
            self.findings.append((body, f"{type(error).__name__} {error}\n  got {str(received)[:2000]}"))

    def report(self, walls: list[Wall]) -> str:
        """Return the verdicts, the first findings, what the walls did, and how to run the schedule again."""
        faults = Counter(str(seen.fault.kind) for wall in walls for seen in wall.seen)
        again = f"pytest tests/faults/test_schedules.py --seed {self.schedule.seed} --streams {self.schedule.streams}"
        shown = "\n".join(f"{body}\n{trail(body, walls)}  {what}" for body, what in self.findings[:3])
        return f"{len(self.findings)} findings, {dict(self.verdicts)}, {dict(faults)}\n{shown}\nrun again: {again}"


def trail(body: dict[str, Any], walls: list[Wall]) -> str:
    """Return what each replica was asked and did for one request, in order of time."""
    mine = [(seen.at, wall, seen) for wall in walls for seen in wall.seen if number_of(seen.body) == number_of(body)]
    lines = [
        f"  {wall.dialect} {seen.path} {seen.fault} status {seen.status}, sent {seen.tokens_sent} tokens, "
        f"given {str(seen.body.get('prompt') or seen.body['messages'][-1])[-150:]!r}\n"
        for _, wall, seen in sorted(mine, key=lambda entry: entry[0])
    ]
    return "".join(lines)


def seeds(config: pytest.Config) -> tuple[int, ...]:
    """Return the seeds to run, as options and environment say."""
    seed: int | None = config.getoption("--seed")
    if seed is not None:
        return (seed,)
    return tuple(range(1, 1 + int(os.environ.get("SECONDSOURCE_SOAK", "0")))) or SUITE_SEEDS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each seed."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds(metafunc.config))


async def run(schedule: Schedule, gateway: Gateway, auditor: Auditor) -> None:
    """Send every request of a schedule, some at once, and judge each answer."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(body: dict[str, Any]) -> None:
        async with gate:
            auditor.judge(body, await gateway.ask(body))

    bodies = [schedule.body(number) for number in range(schedule.streams)]
    await asyncio.gather(*(one(body) for body in bodies))


async def test_no_answer_is_lost_or_cut_in_silence(
    seed: int, pytestconfig: pytest.Config, make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    schedule = Schedule(seed, pytestconfig.getoption("--streams") or SUITE_STREAMS)
    walls, pools = [], []
    for number, (dialect, continuation) in enumerate(schedule.ways()):
        wall = make_wall(dialect=dialect, decide=schedule.fault)
        walls.append(wall)
        pools.append(Pool(f"pool-{number}", (wall,), continuation=continuation, order=number // 2))
    gateway = make_gateway(*pools, timeouts=TIMEOUTS)
    auditor = Auditor(schedule)
    await run(schedule, gateway, auditor)
    report = auditor.report(walls)
    print(report)
    assert not auditor.findings, report
    assert sum(auditor.verdicts.values()) == schedule.streams, report
    whole = auditor.verdicts["whole"]
    assert whole >= schedule.streams * (1.0 - schedule.trouble), f"second sources saved too few answers: {report}"
    assert gateway.process.poll() is None


def test_expected_answers_are_not_all_alike() -> None:
    schedule = Schedule(1, 50)
    assert len({lm.expected_answer(schedule.body(number)) for number in range(50)}) == 50
