from pathlib import Path

import pytest

from secondsource.benchmarking import rounds
from secondsource.benchmarking.records import ROWS, Row, Slice
from secondsource.benchmarking.rounds import Plan, measure
from secondsource.benchmarking.stage import Candidate
from tests.unit.benchmarking.slices import one_slice

CANDIDATES = [Candidate(name=name, version="1", port=1, program=None) for name in ("none", "secondsource")]
Done = list[tuple[str, str, int]]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Done:
    order: Done = []

    def measured(row: Row, candidate: Candidate, number: int, _: Path) -> Slice:
        order.append((row.name, candidate.name, number))
        return one_slice(candidate.name, row.name, round=number, version=candidate.version)

    monkeypatch.setattr(rounds, "measure_slice", measured)
    return order


def test_gateways_take_turns_within_a_row_and_rows_within_a_round(done: Done, tmp_path: Path) -> None:
    measure(Plan(rows=ROWS[:2], rounds=2, scratch=tmp_path), CANDIDATES, lambda _: None, lambda _: None)
    names = [(row.name, candidate.name) for row in ROWS[:2] for candidate in CANDIDATES]
    assert done == [(*name, number) for number in (1, 2) for name in names]


def test_what_was_kept_is_not_measured_again_and_what_is_of_another_version_is(done: Done, tmp_path: Path) -> None:
    kept = [
        one_slice("none", "plain-1"),
        one_slice("secondsource", "plain-1", version="older"),
        one_slice("secondsource", "plain-64"),
        one_slice("secondsource", "plain-1", round=2),
    ]
    saved: list[Slice] = []
    plan = Plan(rows=ROWS[:1], rounds=1, scratch=tmp_path, kept=kept)
    slices = measure(plan, CANDIDATES, lambda _: None, saved.append)
    assert done == [("plain-1", "secondsource", 1)]
    assert [one.version for one in slices] == ["1", "1"]
    assert slices[1:] == saved


def test_whoever_was_measured_before_has_settled(done: Done, tmp_path: Path) -> None:
    class Settling:
        """A gateway that may still answer what nobody waits for."""

        def __init__(self, name: str) -> None:
            self.name = name

        def settle(self, within_s: float) -> None:
            done.append((self.name, "settled", int(within_s)))

    both = [Candidate(name=name, version="1", port=1, program=Settling(name)) for name in ("slow", "secondsource")]  # type: ignore[arg-type]  # as much of a program as is asked for
    measure(Plan(rows=ROWS[:1], rounds=1, scratch=tmp_path), both, lambda _: None, lambda _: None)
    settled = [("slow", "settled", 20), ("secondsource", "settled", 20)]
    assert done == [*settled, ("plain-1", "slow", 1), *settled, ("plain-1", "secondsource", 1)]


def test_the_locks_are_held_while_a_row_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import fcntl

    lock = tmp_path / "lock"

    def measured(row: Row, candidate: Candidate, number: int, _: Path) -> Slice:
        with lock.open("a") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return one_slice(candidate.name, row.name, round=number)

    monkeypatch.setattr(rounds, "measure_slice", measured)
    plan = Plan(rows=ROWS[:1], rounds=1, scratch=tmp_path, locks=[lock])
    assert len(measure(plan, CANDIDATES, lambda _: None, lambda _: None)) == 2
    with lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
