import json

import pytest

from secondsource.benchmarking.loads import parse_wrk, plain_body
from secondsource.core.errors import SecondsourceError


def test_wrk_is_read_by_the_line_our_script_adds() -> None:
    output = (
        'Running 5s test\n  Latency {not json}\n\n{"requests":10,"duration_us":5,"p50_us":1,"p99_us":2,"failed":3}\n'
    )
    result = parse_wrk(output)
    assert (result.requests, result.p99_us, result.failed) == (10, 2, 3)


def test_wrk_without_a_result_is_no_result() -> None:
    with pytest.raises(SecondsourceError, match="no result: unable to connect"):
        parse_wrk("unable to connect")


@pytest.mark.parametrize("size", [16, 64, 32 * 1024])
def test_a_prompt_has_the_size_asked_for(size: int) -> None:
    assert len(json.loads(plain_body(size))["messages"][0]["content"]) == size
