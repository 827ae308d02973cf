"""The plan beside what is: demand as measured, capacity as rented, this month or the nearest."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from secondsource.catalog.load import load_catalog
from secondsource.console.answers import Now, PoolNow, Series
from secondsource.console.planning_again import factors_of
from secondsource.console.standing import Measured, Standing, measure, stand
from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet, Pool, Supplier
from secondsource.gateway.books.journal import Journal
from secondsource.gateway.books.ledger import Ledger
from secondsource.planner.kept import KEPT_FILE, keep, read_kept, with_demand
from secondsource.planner.planning import Inputs, make_plan
from secondsource.planner.rates import profile_rates
from secondsource.planner.report import make_report
from secondsource.planner.spec_file import load_spec
from secondsource.profiles.compiled import stored_corrections
from tests.ledger_records import AT_NS, SECOND_NS, reserved, settled

SMALL = Path(__file__).parents[1] / "planner" / "small.toml"
JANUARY, BEFORE = datetime(2027, 1, 15, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
FLEET = Fleet(
    suppliers=(Supplier(name="azure"),),
    pools=(
        Pool(
            name="azure-h100",
            supplier="azure",
            chip="h100-sxm",
            chips_per_replica=8,
            model="chat",
            upstream_model="m",
            replicas=("http://a", "http://b"),
        ),
    ),
)
POOL = PoolNow(
    name="azure-h100",
    supplier="azure",
    chip="h100-sxm",
    model="chat",
    replicas=2,
    up=1,
    circuits={},
    in_flight=0,
    limit=None,
    waiting=None,
    at_par=True,
    plugged=True,
    continuation="none",
    tokens_per_s=0.0,
    failed_per_min=0,
    usd_per_hour=10.0,
)
NOW = Now(
    at=JANUARY,
    running=0,
    waiting=0,
    requests_per_s=0.0,
    tokens_per_s=0.0,
    refused_per_s=0.0,
    goodput=None,
    usd_per_hour=10.0,
    usd_per_million=None,
    lanes=[],
    flows=[],
    pools=[POOL],
    suppliers=[],
    chips=[],
    incidents=[],
    series=Series(at=[], lanes={}, tokens_per_s={}, refused=[], failed=[]),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the plan of the small SPEC."""
    spec = load_spec(SMALL)
    catalog = load_catalog(None, JANUARY.date()).with_chips(spec.chips)
    inputs = Inputs(catalog=catalog, rate_of=profile_rates(catalog, stored_corrections()), learnt={})
    planned = make_plan(spec, inputs, lambda _: None)
    found = tmp_path_factory.mktemp("kept")
    keep(found, SMALL, make_report(spec, planned))
    return found


def standing(directory: Path, measured: Measured, today: datetime = JANUARY) -> Standing:
    kept = read_kept(directory)
    assert kept is not None
    return stand(kept, FLEET, NOW, measured, today)


def test_demand_and_capacity_beside_the_plans(directory: Path) -> None:
    measured = Measured({"paid": 150.0, "image": 1.0}, {"paid": 90.0, "image": 0.1}, {("azure", "h100-sxm"): 4})
    found = standing(directory, measured)
    assert (found.month, found.in_time, found.spec) == ("2027-01", True, str(SMALL))
    lanes = {line.lane: line for line in found.demand}
    assert lanes["paid"].planned_requests_per_s == pytest.approx(100)
    assert lanes["paid"].drift == pytest.approx(0.5)
    assert (lanes["image"].planned_requests_per_s, lanes["image"].drift) == (0.0, None)
    assert lanes["free"].busiest_requests_per_s is None
    azure = next(line for line in found.supply if line.supplier == "azure")
    assert (azure.rented_chips, azure.up_chips, azure.served_share) == (16, 8, 1.0)
    assert azure.planned_chips > 0
    assert azure.planned_chips % 8 == 0
    assert found.running_usd == pytest.approx(7300)
    assert factors_of(found) == {"paid": 1.5}


def test_a_month_that_is_not_in_the_plan_has_the_nearest_for_it(directory: Path) -> None:
    found = standing(directory, Measured({}, {}, {}), BEFORE)
    assert (found.month, found.in_time) == ("2027-01", False)


def test_the_busiest_five_minutes_of_the_last_day_are_measured(tmp_path: Path) -> None:
    ledger, journal = Ledger(tmp_path), Journal(tmp_path / "journal", worker=0, started_ns=1)
    times = [0, *[3600 + second for second in range(60)], 7200]
    for number, second in enumerate(times):
        journal.append(reserved(f"r{number}", at_ns=AT_NS + second * SECOND_NS))
        journal.append(settled(f"r{number}", at_ns=AT_NS + second * SECOND_NS + 1))
    journal.flush()
    ledger.absorb()
    journal.close()
    ledger.close()
    found = measure(tmp_path, AT_NS + 7200 * SECOND_NS + 1)
    assert found.busiest["paid"] == pytest.approx(60 / 300)
    assert found.mean["paid"] == pytest.approx(62 / 7200, rel=0.01)
    assert found.served == {("azure", "h100-sxm"): 62}


def test_no_plan_is_none_and_a_broken_one_is_said_to_be(tmp_path: Path) -> None:
    assert read_kept(tmp_path) is None
    (tmp_path / KEPT_FILE).write_text("{}")
    with pytest.raises(InputError, match=r"plan\.json.*--keep"):
        read_kept(tmp_path)


def test_demand_is_multiplied_lane_by_lane() -> None:
    spec = load_spec(SMALL)
    more = with_demand(spec, {"paid": 2.0})
    assert [(one.lane, other.peak[0] / one.peak[0]) for one, other in zip(spec.demand, more.demand, strict=True)] == [
        ("paid", 2.0),
        ("free", 1.0),
    ]
    with pytest.raises(InputError, match="image"):
        with_demand(spec, {"image": 2.0})
