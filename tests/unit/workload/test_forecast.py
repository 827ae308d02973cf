import pytest

from secondsource.core.errors import InputError
from secondsource.workload.forecast import Surge, forecast, month_hours, month_names


def test_months_run_over_the_year() -> None:
    assert month_names("2027-11", 3) == ("2027-11", "2027-12", "2028-01")
    assert month_hours("2028-02") == 696


@pytest.mark.parametrize("start", ["2027-13", "2027", "27-01", "2027-1"])
def test_a_month_is_written_one_way(start: str) -> None:
    with pytest.raises(InputError, match="YYYY-MM"):
        month_names(start, 1)


def test_growth_compounds_and_surges_multiply() -> None:
    values = forecast(100.0, 13, 1.0, [Surge(first=12, months=1, factor=5.0)])
    assert values[0] == 100.0
    assert values[6] == pytest.approx(100 * 2**0.5)
    assert values[12] == pytest.approx(1000.0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="negative"):
        forecast(-1.0, 2, 0.0)
    with pytest.raises(InputError, match="growth_per_year"):
        forecast(1.0, 2, -1.0)
