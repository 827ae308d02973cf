from pathlib import Path

import pytest

from secondsource.core.errors import InputError
from secondsource.workload.shape import Window, learn_shape, read_rates, windows_of
from secondsource.workload.trace import Arrival


def test_a_days_shape_has_mean_one_and_its_peak() -> None:
    windows = [Window(hour * 3600.0, 10.0 + hour, hour + 2) for hour in range(24)]
    shape = learn_shape(windows)
    assert sum(shape.by_hour) == pytest.approx(24)
    assert shape.by_hour[23] == pytest.approx(33 / 21.5)
    assert shape.mean_to_peak == pytest.approx(21.5 / 33)


def test_windows_count_requests() -> None:
    arrivals = [Arrival(t, 1, 1, 2) for t in (0.0, 1.0, 5.0, 11.0, 20.5)]
    assert [window.requests_per_s for window in windows_of(arrivals, 10.0)] == [0.3, 0.1]


def test_servegen_rows_and_a_table_read_alike(tmp_path: Path) -> None:
    bare = tmp_path / "chunk-0-trace.csv"
    bare.write_text("0,2.5,1.1,Gamma,0.8,0.5\n600,3.5,1.0,Weibull,0.9,0.3\n")
    table = tmp_path / "rates.csv"
    table.write_text("model,t_s,rate_req_s\na,0,2.5\na,600,3.5\nb,0,9\nb,600,9\n")
    rates = [window.requests_per_s for window in read_rates(bare)]
    assert rates == [2.5, 3.5]
    assert [window.requests_per_s for window in read_rates(table, "a")] == rates
    with pytest.raises(InputError, match="choose one of"):
        read_rates(table)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("t_s,requests_per_s\n0,1\n600,1\n1200,1\n2400,1\n", r":5: a gap"),
        ("t_s,requests_per_s\n0,1\n600,0\n", r":3: a window of rate 0"),
        ("t_s,requests_per_s\n0,-1\n", r":2: a rate cannot be negative"),
        ("t_s,requests_per_s\n0,x\n", r":2: expected a time"),
        ("t_s,other\n0,1\n", r":1: expected a column"),
    ],
)
def test_a_bad_rate_file_names_the_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_rates(path)
