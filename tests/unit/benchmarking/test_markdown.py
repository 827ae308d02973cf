from secondsource.benchmarking.arithmetic import summarise
from secondsource.benchmarking.drift import Drift, Sample
from secondsource.benchmarking.markdown import NEW_PAGE, Setting, drift_section, gateways_section, replace_section
from tests.unit.benchmarking.slices import one_slice

SETTING = Setting(date="2026-11-22", machine="a machine", command="secondsource bench gateway --rounds 3")


def test_a_section_replaces_its_last_version_and_nothing_else() -> None:
    page = replace_section(replace_section(NEW_PAGE, "a", "first"), "b", "other")
    again = replace_section(page, "a", "second")
    assert again == page.replace("first", "second")
    assert replace_section(again, "a", "second") == again
    assert again.startswith(NEW_PAGE)


def test_the_section_has_machine_date_command_versions_numbers_and_verdicts() -> None:
    slices = [
        one_slice("none", "paced", cpu_s=0.0, version=""),
        one_slice("vllm-router", "plain-64", version="0.1.17", done=1000),
        one_slice("vllm-router", "paced", version="0.1.17", cpu_s=0.02, p99_us=900.0),
        one_slice("secondsource", "plain-64", version="9.9", done=1500),
        one_slice("secondsource", "paced", version="9.9", cpu_s=0.01, p99_us=700.0, failed=7),
    ]
    text = gateways_section(summarise(slices, "none", "vllm-router"), {"nginx": "it is not here"}, SETTING)
    for part in (SETTING.date, SETTING.machine, SETTING.command, "vllm-router 0.1.17", "secondsource 9.9"):
        assert part in text
    assert "| secondsource | 150 | 1.50 | 0.20 |" in text
    assert "| secondsource | 100 | 10.0 | 0.50 | 0.00 | 0.50 |  |" in text
    assert "secondsource failed 7 of 500 streams" in text
    assert "nginx took no part: it is not here" in text
    assert "1.50 × | **no** |" in text
    assert "0.50 × | yes |" in text


def test_a_gateway_that_lacks_a_row_has_blanks_there() -> None:
    slices = [one_slice("vllm-router", "plain-1"), one_slice("secondsource", "plain-64")]
    text = gateways_section(summarise(slices, "none", "vllm-router"), {}, SETTING)
    assert "| vllm-router | 100 | 1.00 | 0.20 |  |  |  |" in text
    assert "What we hold ourselves to" not in text


def test_what_the_host_took_away_is_told_where_it_matters() -> None:
    slices = [one_slice("vllm-router", stolen_s=0.1), one_slice("secondsource", stolen_s=0.2)]
    assert "took core 0 away" not in gateways_section(summarise(slices, "none", "vllm-router"), {}, SETTING)
    slices[1] = one_slice("secondsource", stolen_s=3.1)
    text = gateways_section(summarise(slices, "none", "vllm-router"), {}, SETTING)
    assert "took core 0 away" in text
    assert "| vllm-router | 1 |\n| secondsource | 31 |" in text


def test_drift_is_told_with_its_verdict() -> None:
    samples = tuple(Sample(at_s=60.0 * n, rss_bytes=50_000_000, streams=100 * n, failed=n) for n in range(61))
    drift = Drift(gateway="g", version="1", minutes=60, samples=samples, bytes_per_hour=9e6)
    text = drift_section(drift, "a load", SETTING)
    assert "+9.0 MB an hour: NOT FLAT" in text
    assert "6,000 streams whole, 60 failed" in text
    assert text.count("\n| ") < 16
