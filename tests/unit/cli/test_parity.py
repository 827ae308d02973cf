"""Which pools `secondsource parity` judges, and what it refuses before it asks anybody."""

from pathlib import Path

import pytest

from secondsource.cli.main import main
from secondsource.cli.parity import choose_pools
from secondsource.core.errors import InputError
from tests.fleets import fleet, pool

NEW, OLD = pool("new", require_parity=True), pool("old")


def test_the_one_that_waits_is_held_against_the_only_other() -> None:
    other = pool("elsewhere", model="another")
    assert choose_pools(fleet(NEW, OLD, other), None, None) == (NEW, OLD)
    assert choose_pools(fleet(NEW, OLD, pool("third")), "old", "new") == (OLD, NEW)
    assert choose_pools(fleet(NEW, OLD, pool("new-too", require_parity=True)), "new", None) == (NEW, OLD)


@pytest.mark.parametrize(
    ("name", "against", "said"),
    [
        (None, None, "0 pools have require_parity = true; name one with --pool: a, b, c"),
        ("x", None, "--pool x: the fleet has no such pool; it has: a, b, c"),
        ("a", "x", "--against x: the fleet has no such pool"),
        ("a", "a", "a pool is always at par with itself"),
        ("a", "c", '--against c: it serves "image" and a serves "chat"'),
        ("c", None, "there is none; add the pool that answers rightly"),
    ],
)
def test_what_cannot_be_meant_is_told(name: str | None, against: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        choose_pools(fleet(pool("a"), pool("b"), pool("c", model="image")), name, against)


def test_of_several_others_one_has_to_be_named() -> None:
    with pytest.raises(InputError, match="answers rightly\\? Name one of: old, third"):
        choose_pools(fleet(NEW, OLD, pool("third")), None, None)


@pytest.mark.parametrize(
    "flags", [["--probes", "0"], ["--tolerance", "nan"], ["--longest", "1"], ["--at-once", "1000"]]
)
def test_numbers_out_of_bounds_are_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main(["parity", str(tmp_path / "fleet.toml"), *flags]) == 2
    assert f"{flags[0]} {flags[1]}: expected a number" in capsys.readouterr().err
