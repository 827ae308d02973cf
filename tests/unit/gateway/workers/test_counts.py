"""The meters of several workers, added up: nothing that a meter counts is left out."""

import msgspec

from secondsource.core.records import Kind, Outcome
from secondsource.gateway.meter import Meter
from secondsource.gateway.workers.counts import Counts, add_up, at_the_end, copy_of, show
from tests.ledger_records import reserved, settled


def used(times: int) -> Meter:
    """A meter that has counted something of everything."""
    meter = Meter(("chat",), ("paid",))
    for number in range(times):
        meter.request_started("/v1/chat/completions", "chat", "paid")
        meter.request_ended("/v1/chat/completions", "chat", "paid", 200, 10**9 * number, 10**8, 7)
        meter.request_refused("paid", 429)
        meter.refused["paid", "rejected-full"] += 1
        meter.first_token_predicted("paid", 0.5, 0.25)
        meter.cap_breaches["azure"] += 1
        meter.image_requests["join"] += 1
        attempt = reserved(number=number + 1, kind=Kind.FIRST)
        meter.attempt_ended(attempt, settled(number=number + 1, outcome=Outcome.OK, cost_nano_usd=5, tenant_nano_usd=3))
    meter.request_started("/v1/chat/completions", "chat", "paid")
    meter.log_lines_dropped = times
    return meter


def over_the_wire(meter: Meter) -> Counts:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(copy_of(meter)), type=Counts)


def test_every_count_of_a_meter_is_copied_and_shown() -> None:
    counted = {name for name in vars(used(1)) if not name.startswith("_")}
    assert counted == set(Counts.__struct_fields__)
    shown = Meter((), ())
    show(add_up([over_the_wire(used(3))]), shown)
    assert copy_of(shown) == copy_of(used(3))
    assert all(vars(shown)[name] for name in counted), "the test counts something of everything"


def test_sums_are_sums() -> None:
    total = copy_of(add_up([over_the_wire(used(2)), over_the_wire(used(3))]))
    (route,) = total.routes.values()
    assert (route.started, route.ended, route.tokens_out) == (7, 5, 35)
    assert sum(route.durations[200].counts) == 5
    (attempt,) = total.attempts.values()
    assert attempt.kinds == {(Kind.FIRST, Outcome.OK): 5}
    assert list(total.spends.values()) == [(25, 15)]
    assert total.refused == {("paid", "rejected-full"): 5}
    assert total.log_lines_dropped == 5


def test_what_a_dead_worker_had_started_is_in_progress_no_more() -> None:
    (route,) = at_the_end(copy_of(used(2))).routes.values()
    assert route.started == route.ended == 3
