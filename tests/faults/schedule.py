"""A seed's replicas, requests and faults, and the auditor of what came of them.

A fault depends on the seed, the request and how often it was tried, not on how requests interleave, so that a
failure can be run again; which replica is tried first is the gateway's choice.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from tests.faults import language_model as lm
from tests.faults import meter
from tests.faults.dialects import Dialect
from tests.faults.fault import BEFORE_ANSWER, BREAKS_STREAM, HEALTHY, ODD_BUT_WHOLE, Fault, Kind
from tests.faults.judge import assert_broken_openly, assert_whole
from tests.faults.language_model import ask, ask_raw
from tests.faults.misbehave import Seen
from tests.faults.raw_client import End, Received
from tests.faults.wall import Wall

# Each of these costs a whole time-out, so a schedule has few of them.
SLOW = frozenset({Kind.SILENCE, Kind.STALL, Kind.PINGS, Kind.HEAD_DRIP, Kind.NO_DONE_SILENT, Kind.ENDLESS_LINE})
LEAVING = 0.04  # of the clients
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
    sizes: tuple[int, ...] = (20, 120, 400)  # bytes of the answers
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
        size, wide = self.random.choice(self.sizes), self.random.random() < 0.5
        # An engine that gives no token ids sends a character that took it several tokens as one event.
        wide = wide and "max_tokens" not in form
        streamed = self.random.random() < 0.85
        if not streamed:
            form.pop("stream_options", None)
        return make(f"schedule {self.seed} number {number}", size=size, wide=wide, stream=streamed, **form)

    def leaves(self, number: int) -> int | None:
        """Return after how many events the client of request `number` leaves, or None where it stays."""
        draw = Random(f"{self.seed} leaves {number}")
        return draw.randint(1, 8) if draw.random() < LEAVING else None

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
    """Judges every answer of a schedule and every row of its books, and counts what became of them."""

    schedule: Schedule
    again: str  # the command that runs the schedule again
    verdicts: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    ends: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # by request id: verdict and request

    def judge(self, body: dict[str, Any], received: Received) -> None:
        """Judge one answer: whole and undisturbed, or broken and saying so, or left by its client."""
        try:
            verdict = _verdict(body, received)
            request_id = received.headers["x-request-id"]
            assert request_id not in self.ends, f"{request_id} was answered twice"
        except (AssertionError, KeyError, ValueError, pytest.fail.Exception) as error:
            self.findings.append((body, f"{type(error).__name__} {error}\n  got {str(received)[:2000]}"))
        else:
            self.verdicts[verdict] += 1
            self.ends[request_id] = verdict, body

    def balance(self, rows: dict[str, meter.Row], metered: dict[str, list[Seen]]) -> None:
        """Judge the books: against the replicas' own meter, and against what each client was given."""
        self.findings += [({}, found) for found in meter.discrepancies(rows, metered)]
        requests = meter.of_requests(rows)
        for request_id, (verdict, body) in self.ends.items():
            outcomes = [row.outcome for row in requests.get(request_id, ())]
            if (wrong := _misbooked(verdict, body, outcomes)) is not None:
                self.findings.append((body, f"{request_id} was {verdict}, and {wrong}: {outcomes}"))

    def report(self, walls: list[Wall]) -> str:
        """Return the verdicts, the first findings, what the walls did, and how to run the schedule again."""
        faults = Counter(str(seen.fault.kind) for wall in walls for seen in wall.seen)
        shown = "\n".join(f"{body}\n{trail(body, walls)}  {what}" for body, what in self.findings[:3])
        return f"{len(self.findings)} findings, {dict(self.verdicts)}, {dict(faults)}\n{shown}\nrun again: {self.again}"


def _verdict(body: dict[str, Any], received: Received) -> str:
    if received.end is End.LEFT:
        assert received.status == 200
        assert lm.expected_answer(body).startswith(received.text())
        return "left"
    if received.looks_whole:
        assert_whole(received, body)
        return "whole"
    assert_broken_openly(received, body)
    return f"open error {received.status}"


def _misbooked(verdict: str, body: dict[str, Any], outcomes: list[str | None]) -> str | None:
    """Return what is wrong with a request's attempts, given what its client got."""
    if "ok" in outcomes[:-1]:
        return "it was tried again after it had ended well"
    last = outcomes[-1] if outcomes else None
    ended_well = last in {"ok", "interrupted"}  # killed between an answer's last byte and its settlement
    if verdict == "whole" and not ended_well and "max_tokens" not in body:  # cut at its very limit, it is whole
        return "no attempt ended well"
    if not outcomes and verdict in {"whole", "left"}:
        return "no attempt is in the books"
    if verdict.startswith("open error") and last in {"ok", "client_gone"}:
        return "its last attempt ended well"
    return None


def trail(body: dict[str, Any], walls: list[Wall]) -> str:
    """Return what each replica was asked and did for one request, in order of time."""
    if not body:
        return ""
    mine = [(seen.at, wall, seen) for wall in walls for seen in wall.seen if number_of(seen.body) == number_of(body)]
    lines = [
        f"  {wall.dialect} {seen.path} {seen.fault} status {seen.status}, sent {seen.tokens_sent} tokens, "
        f"given {str(seen.body.get('prompt') or seen.body['messages'][-1])[-150:]!r}\n"
        for _, wall, seen in sorted(mine, key=lambda entry: entry[0])
    ]
    return "".join(lines)
