"""The last five minutes: what is counted, as what, and what is an incident."""

from datetime import timedelta

import msgspec
import pytest

from secondsource.console.incidents import Incident, IncidentKind
from secondsource.console.quantiles import bucket_of, merged, quantile_s
from secondsource.console.window import BIN_S, BINS, Bin, Window, is_ordinary
from secondsource.core.fleet import Lane
from secondsource.core.records import Outcome
from secondsource.gateway.request_log import RequestLine
from tests.unit.console.lines import AT, failover, line, tried

LANES = (Lane(name="paid", ttft_s=1.5, tpot_s=0.2), Lane(name="free", priority=10))
NOW = AT.timestamp() + BIN_S


def filled(*lines: RequestLine) -> Window:
    window = Window(LANES)
    window.take([msgspec.json.encode(one) for one in lines])
    return window


def bin_of(window: Window) -> Bin:
    return window.bins(NOW)[-2]


def incident(*lines: RequestLine) -> Incident:
    [found] = filled(*lines).incidents.newest(10)
    return found


def test_an_answer_counts_for_its_lane_and_its_pool() -> None:
    found = bin_of(filled(line(), line(first_token_s=0.5)))
    lane, made = found.lanes["paid"], found.made["paid", "azure-h100"]
    assert (lane.requests, lane.good, lane.refused, lane.tokens_out) == (2, 2, 0, 22)
    assert (made.attempts, made.failed, made.tokens_out, made.cost_nano_usd) == (2, 0, 22, 14)
    assert quantile_s(lane.first_token, 0.99) == pytest.approx(1.0, rel=0.03)
    assert quantile_s(lane.per_token, 0.01) == pytest.approx(0.1, rel=0.03)


def test_what_is_late_refused_or_broken_is_not_good() -> None:
    late = line(first_token_s=1.6)
    slow = line(first_token_s=0.1, duration_s=9.0)
    refused = line(status=429, refusal="rejected-ttft", attempts=[], first_token_s=None)
    broken = line(status=502, attempts=[tried(outcome=Outcome.CUT)])
    lane = bin_of(filled(late, slow, refused, broken)).lanes["paid"]
    assert (lane.requests, lane.good, lane.refused) == (3, 0, 1)


def test_health_checks_and_garbage_count_for_nothing() -> None:
    window = Window(LANES)
    window.take([b"{", b"", b'{"at":1}', msgspec.json.encode(line(endpoint="/v1/models", method="GET", attempts=[]))])
    assert all(not one.requests for found in window.bins(NOW) for one in found.lanes.values())


def test_the_window_is_five_minutes_long_and_what_is_older_is_forgotten() -> None:
    window = filled(*(line(at=AT - timedelta(seconds=BIN_S * number)) for number in range(2 * BINS)))
    bins = window.bins(NOW)
    assert len(bins) == BINS
    assert [one.lanes["paid"].requests for one in bins[:-1]] == [1] * (BINS - 1)
    assert not bins[-1].lanes


def test_of_very_many_ordinary_lines_some_stand_for_the_rest() -> None:
    window = Window(LANES)
    window.take([msgspec.json.encode(one) for one in [*[line()] * 1000, *[failover()] * 3]], 10)
    found = bin_of(window)
    assert found.lanes["paid"].requests == pytest.approx(1003, abs=15)
    assert found.made["paid", "gcp-v6e"].attempts == 3


def test_of_very_many_refusals_the_count_stays_true() -> None:
    refused = msgspec.json.encode(line(status=503, refusal="rejected-ttft", attempts=[]))
    window = Window(LANES)
    window.take([refused] * 1000, 10)
    assert bin_of(window).lanes["paid"].refused == pytest.approx(1000, abs=100)
    [found] = window.incidents.newest(1)
    assert found.count == bin_of(window).lanes["paid"].refused


def test_only_what_one_attempt_answered_is_ordinary() -> None:
    assert is_ordinary(msgspec.json.encode(line()))
    cut = [tried(outcome=Outcome.CUT)]
    for other in (failover(), line(status=502), line(attempts=cut), line(status=429, refusal="x", attempts=[])):
        assert not is_ordinary(msgspec.json.encode(other))


def test_incidents_of_a_kind_and_a_moment_are_one_and_lead_to_their_requests() -> None:
    found = incident(failover(request_id="req_1"), failover(request_id="req_2", at=AT + timedelta(seconds=2)), line())
    assert (found.kind, found.reason, found.supplier, found.lane) == (IncidentKind.FAILOVER, "cut", "azure", "paid")
    assert (found.count, found.request_ids, found.at) == (2, ["req_1", "req_2"], AT + timedelta(seconds=2))


@pytest.mark.parametrize(
    ("one", "kind", "reason"),
    [
        (line(first_token_s=1.6), IncidentKind.LATE, "ttft"),
        (line(first_token_s=0.1, duration_s=9.0), IncidentKind.LATE, "tpot"),
        (line(status=503, refusal="rejected-queue-full", attempts=[]), IncidentKind.REFUSAL, "rejected-queue-full"),
        (line(status=502, attempts=[tried(outcome=Outcome.STALLED)]), IncidentKind.BROKEN, "stalled"),
        (line(over_share=True), IncidentKind.BREACH, "max_share"),
    ],
)
def test_what_an_incident_is_called(one: RequestLine, kind: IncidentKind, reason: str) -> None:
    found = incident(one)
    assert (found.kind, found.reason) == (kind, reason)


@pytest.mark.parametrize(
    "one",
    [line(status=499, attempts=[tried(outcome=Outcome.CLIENT_GONE)]), line(status=401, refusal="invalid_api_key")],
)
def test_what_is_no_incident(one: RequestLine) -> None:
    assert filled(one).incidents.newest(10) == []


def test_quantiles_are_within_a_fortieth() -> None:
    counts = merged([{bucket_of(value / 100): 1} for value in range(1, 101)])  # type: ignore[list-item]
    for part in (0.1, 0.5, 0.99):
        assert quantile_s(counts, part) == pytest.approx(part, rel=0.05)
    assert quantile_s(merged([]), 0.5) is None
