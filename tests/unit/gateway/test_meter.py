"""The meter: exact counts in bounded series."""

from secondsource.core.records import Kind, Outcome
from secondsource.gateway.meter import DURATION_BOUNDS_NS, TOKEN_BOUNDS, Histogram, Meter
from tests.ledger_records import SECOND_NS, reserved, settled

CHAT = "/v1/chat/completions"


def make_meter() -> Meter:
    return Meter(models=("chat", "other"), lanes=("paid", "free"))


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    histogram = Histogram((10, 20))
    for value in (0, 10, 11, 20, 21, 10**30):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 2]
    assert histogram.total == 62 + 10**30


def test_bounds_are_those_of_the_conventions() -> None:
    assert [bound / SECOND_NS for bound in DURATION_BOUNDS_NS] == [
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    ]
    assert (
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
    ) == TOKEN_BOUNDS


def test_a_request_is_counted_from_start_to_end() -> None:
    meter = make_meter()
    meter.request_started(CHAT, "chat", "paid")
    [(key, route)] = meter.routes.items()
    assert key == (CHAT, "chat", "paid")
    assert (route.started, route.ended) == (1, 0)
    meter.request_ended(CHAT, "chat", "paid", 200, 2 * SECOND_NS, SECOND_NS, tokens_out=5)
    assert (route.started, route.ended, route.tokens_out) == (1, 1, 5)
    assert route.durations[200].total == 2 * SECOND_NS
    assert route.first_token.total == SECOND_NS
    assert route.per_token.total == SECOND_NS // 4


def test_failed_and_single_token_answers_have_no_time_per_token() -> None:
    meter = make_meter()
    meter.request_ended(CHAT, "chat", "paid", 502, SECOND_NS, SECOND_NS // 2, tokens_out=9)
    meter.request_ended(CHAT, "chat", "paid", 200, SECOND_NS, SECOND_NS // 2, tokens_out=1)
    meter.request_ended(CHAT, "chat", "paid", 200, SECOND_NS, 0, tokens_out=9)
    [route] = meter.routes.values()
    assert sum(route.first_token.counts) == 1
    assert sum(route.per_token.counts) == 0
    assert sum(route.durations[502].counts) == 1


def test_names_from_clients_never_become_series() -> None:
    meter = make_meter()
    for number in range(1000):
        meter.request_started(f"/v1/{number}", f"model-{number}", f"lane-{number}")
        meter.request_ended(f"/v1/{number}", f"model-{number}", f"lane-{number}", 404, 1, 0, 0)
        meter.request_refused(f"lane-{number}", 401)
    assert list(meter.routes) == [("", "", "")]
    assert meter.routes["", "", ""].started == 1000
    assert dict(meter.refusals) == {("", 401): 1000}


def test_attempts_are_counted_by_pool_kind_and_outcome() -> None:
    meter = make_meter()
    meter.attempt_ended(reserved(), settled(outcome=Outcome.CUT, cost_nano_usd=100, tenant_nano_usd=0, tokens_out=3))
    meter.attempt_ended(
        reserved(number=2, kind=Kind.CONTINUATION, pool="oci-b200", supplier="oci", chip="b200"),
        settled(cost_nano_usd=70, tenant_nano_usd=70),
    )
    meter.attempt_ended(reserved("r2"), settled("r2", tokens_in=0, tokens_out=0, outcome=Outcome.RESET))
    azure = meter.attempts["azure-h100", CHAT]
    assert azure.kinds == {(Kind.FIRST, Outcome.CUT): 1, (Kind.FIRST, Outcome.RESET): 1}
    assert (azure.tokens_in.total, azure.tokens_out.total, azure.tokens_cached) == (11, 3, 3)
    assert meter.attempts["oci-b200", CHAT].kinds == {(Kind.CONTINUATION, Outcome.OK): 1}
    spends = {key: (spend.cost, spend.tenants_part) for key, spend in meter.spends.items()}
    assert spends == {("acme", "azure"): (1334, 1234), ("acme", "oci"): (70, 70)}
