"""`secondsource plan` from the outside: what it prints, writes and exits with."""

import json
import re
from pathlib import Path

import pytest

from secondsource.cli.main import main
from secondsource.core.fleet_file import load_fleet

SMALL = (Path(__file__).parent / "small.toml").read_text()
EXAMPLE = Path(__file__).parents[3] / "examples" / "second-source.toml"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "SPEC.toml"
    path.write_text(SMALL)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["plan", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_json_holds_the_plan_its_costs_and_its_proof(capsys: pytest.CaptureFixture[str], spec: Path) -> None:
    code, out, _ = run(capsys, str(spec), "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["gap"] <= 0.001
    assert plan["bound_usd"] <= plan["total_usd"]
    assert plan["total_usd"] == pytest.approx(sum(plan["usd_by_month"]), abs=0.02)
    assert sum(plan["usd_by_supplier"].values()) == pytest.approx(plan["rent_usd"], abs=0.02)
    assert {start["supplier"] for start in plan["starts"]} == {"azure", "gcp"}
    assert {route["case"] for route in plan["routes"]} == {"normal", "supplier azure", "supplier gcp"}
    assert not any(r["pool"].startswith("azure") for r in plan["routes"] if r["case"] == "supplier azure")
    assert any(line["statement"] == "survive.suppliers.azure" for line in plan["binding"])
    assert {trial["plan"] for trial in plan["outlook"]["trials"]} == {"deterministic", "perfect foresight"}


def test_the_fleet_it_writes_is_one_that_up_reads(
    capsys: pytest.CaptureFixture[str], spec: Path, tmp_path: Path
) -> None:
    fleet = tmp_path / "FLEET.toml"
    assert run(capsys, str(spec), "--write-fleet", str(fleet), "--month", "2027-03")[0] == 0
    written = load_fleet(fleet)
    assert {pool.supplier for pool in written.pools} == {"azure", "gcp"}
    assert sum(pool.weight for pool in written.pools) == pytest.approx(1.0, abs=1e-5)
    assert {one.name: one.max_share for one in written.suppliers} == {"azure": 0.7, "gcp": None}
    assert {(lane.name, lane.priority, lane.ttft_s, lane.tpot_s) for lane in written.lanes} == {
        ("paid", 0, 2.0, None),
        ("free", 0, None, None),
    }


def test_the_page_shows_capacity_spend_and_caps(capsys: pytest.CaptureFixture[str], spec: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    assert run(capsys, str(spec), "--plot", str(page))[0] == 0
    text = page.read_text()
    assert "Chips in service" in text
    assert "Rent by supplier" in text
    assert "azure gets at most 70% of each month&#x27;s rent" in text
    assert "<script" not in text


def test_what_if_plans_again_and_compares(capsys: pytest.CaptureFixture[str], spec: Path) -> None:
    code, out, _ = run(capsys, str(spec), "--what-if", "suppliers.azure.max_share=0.2", "--json")
    both = json.loads(out)
    assert code == 0
    assert both["after"]["total_usd"] > both["before"]["total_usd"]
    shares = both["after"]["usd_by_supplier"]
    assert shares["azure"] <= 0.2 * sum(shares.values()) * 1.000001
    assert spec.read_text() == SMALL


def test_explain_says_why_and_what_instead(capsys: pytest.CaptureFixture[str], spec: Path) -> None:
    code, out, _ = run(capsys, str(spec), "--explain", "--json")
    explanation = json.loads(out)["explanation"]
    assert code == 0
    worth = {item["what"]: item["usd_per_year"] for item in explanation["statements"]}
    assert worth["survive.suppliers"] > 0
    assert {item["what"]: item["usd_per_year"] for item in explanation["suppliers"]}["azure"] is None
    reason = next(item for item in explanation["offers"] if "12-months" in item["offer"])
    assert reason["usd_per_year_without"] > 0
    assert reason["instead"] == ["azure/any/h100-sxm/8/on-demand"]


def test_an_infeasible_spec_names_the_smallest_clash_in_its_own_words(
    capsys: pytest.CaptureFixture[str], spec: Path
) -> None:
    spec.write_text(SMALL.replace("max_share = 0.7", "max_share = 0.1\n[suppliers.gcp]\nmax_share = 0.5"))
    code, _, err = run(capsys, str(spec))
    assert code == 1
    named = re.findall(r"^  - (.*)$", err, re.MULTILINE)
    assert len(named) == 3
    assert any("azure gets at most 10% of each month's rent" in line for line in named)
    assert any("gcp gets at most 50% of each month's rent" in line for line in named)
    assert any(re.search(r"SPEC.toml:\d+\)$", line) for line in named)


def test_a_limit_that_binds_later_is_named_with_its_month(capsys: pytest.CaptureFixture[str], spec: Path) -> None:
    limit = '[[limits]]\nchip = "h100-sxm"\nmax_chips = [80, 80, 100]\n[futures]'
    spec.write_text(SMALL.replace("[futures]", limit))
    code, _, err = run(capsys, str(spec))
    assert code == 1
    assert "already cannot in 2027-02" in err
    assert "at most 80 to 100 h100-sxm chips" in err


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('chip = "tpu-v6e"', 'chip = "tpu-v66"', r"SPEC.toml:58: no chip \"tpu-v66\" in the catalogue .* did you mean"),
        ("suppliers = true", 'suppliers = ["ibm"]', r"SPEC.toml:82: nothing can be rented of supplier \"ibm\""),
        ("suppliers.azure", "suppliers.azur", r"SPEC.toml:78: no supplier \"azur\" .* did you mean \"azure\""),
        ("[futures]", '[[limits]]\nsupplier = "gpc"\nmax_chips = 8\n[futures]', r"no supplier \"gpc\" .* \"gcp\""),
        ("[futures]", '[[deliveries]]\nchip = "tpu-v6e"\nsupplier = "gpc"\nfrom = "2027-02"\n[futures]', r"\"gcp\""),
        ("use = false", 'exclude_suppliers = ["azurre"]', r"SPEC.toml:\d+: no supplier \"azurre\""),
        ("use = false", 'regions = ["us-eats"]', r"SPEC.toml:\d+: no region \"us-eats\""),
        ("use = false", 'exclude = ["azure/any"]', r"SPEC.toml:\d+: no offer \"azure/any\""),
        ("as_of = 2026-05-20", "as_of = 2100-05-20", r"SPEC.toml:\d+: offers\[0\].as_of: 2100-05-20 is after today"),
    ],
)
def test_unknown_names_exit_2_with_the_line(
    capsys: pytest.CaptureFixture[str], spec: Path, old: str, new: str, says: str
) -> None:
    spec.write_text(SMALL.replace(old, new))
    code, _, err = run(capsys, str(spec))
    assert code == 2
    assert re.search(says, err)


def test_an_old_price_of_the_specs_own_is_said_to_be_old(capsys: pytest.CaptureFixture[str], spec: Path) -> None:
    spec.write_text(SMALL.replace("as_of = 2026-05-20", "as_of = 2022-05-20"))
    code, out, _ = run(capsys, str(spec), "--json")
    (warning,) = json.loads(out)["warnings"]
    assert code == 0
    assert re.match(r"[23] of the prices it stands on are more than 180 days old, the oldest \d{4} \(", warning)
    assert "ask for today's" in warning


def test_risk_trades_cost_for_fewer_misses(capsys: pytest.CaptureFixture[str], spec: Path) -> None:
    spec.write_text(SMALL.replace("shortfall_usd_per_1000_requests = 2.0", "shortfall_usd_per_1000_requests = 40.0"))
    code, out, _ = run(capsys, str(spec), "--risk", "1", "--json")
    assert code == 0
    trials = {trial["plan"]: trial for trial in json.loads(out)["outlook"]["trials"]}
    assert trials["risk 1"]["mean_missed"] < trials["deterministic"]["mean_missed"]
    assert trials["risk 1"]["worst_missed"] < trials["deterministic"]["worst_missed"]
    assert trials["perfect foresight"]["mean_usd"] <= trials["risk 1"]["mean_usd"] * 1.001


def test_the_example_plans_to_a_proven_gap(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(EXAMPLE), "--what-if", "futures.trials=1", "--json")
    assert code == 0
    plan = json.loads(out)["after"]
    assert plan["gap"] <= 0.01
    years = [sum(plan["usd_by_month"][:12]), sum(plan["usd_by_month"][12:])]
    assert 4e9 < years[0] < 6e9
    assert 12e9 < years[1] < 16e9


def test_every_number_of_the_example_says_where_it_is_from() -> None:
    section = ""
    for line in EXAMPLE.read_text().splitlines():
        section = line if line.startswith("[") else section
        if re.match(r"\w+ = -?(\d|\[\d)", line) and section not in {"[plan]", "[futures]"}:
            assert "#" in line or line.startswith(("as_of", "chips_per_unit", "class")), line


def test_demand_of_a_lane_is_multiplied_and_the_plan_is_kept(
    capsys: pytest.CaptureFixture[str], spec: Path, tmp_path: Path
) -> None:
    _, once, _ = run(capsys, str(spec), "--json")
    code, twice, _ = run(capsys, str(spec), "--json", "--demand", "paid=2", "--keep", str(tmp_path / "state"))
    assert code == 0
    assert json.loads(twice)["total_usd"] > json.loads(once)["total_usd"]
    kept = json.loads((tmp_path / "state" / "plan.json").read_text())
    assert (kept["spec"], kept["plan"]["total_usd"]) == (str(spec), json.loads(twice)["total_usd"])


@pytest.mark.parametrize("given", ["paid", "paid=", "paid=0", "paid=1e9", "other=2"])
def test_a_demand_that_cannot_be_meant_is_said_to_be(
    capsys: pytest.CaptureFixture[str], spec: Path, given: str
) -> None:
    code, _, said = run(capsys, str(spec), "--demand", given)
    assert code == 2
    assert "--demand" in said
