"""What the machine says of itself."""

import os

from secondsource.benchmarking.machine import processor, stolen_s

STAT = """cpu  135323 185702 57783 535884 1579 0 24503 41876 0 0
cpu0 60000 90000 30000 260000 800 0 12000 {stolen} 0 0
cpu10 1 1 1 1 1 1 1 9 0 0
intr 12345
"""


def test_stolen_time_is_of_one_core_in_seconds() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert stolen_s(0, STAT.format(stolen=3 * ticks)) == 3.0
    assert stolen_s(10, STAT.format(stolen=0)) == 9 / ticks


def test_a_kernel_that_tells_of_none_has_stolen_nothing() -> None:
    assert stolen_s(1, STAT.format(stolen=0)) == 0.0
    assert stolen_s(0, "cpu0 1 2 3 4\n") == 0.0
    assert stolen_s(0, "") == 0.0


def test_the_processor_is_the_first_one_named() -> None:
    assert processor("processor : 0\nmodel name : AMD EPYC\n\nmodel name : other\n") == "AMD EPYC"
    assert processor("")
