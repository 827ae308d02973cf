"""A pool with `require_parity` gets traffic when its file says that it, as it is, is at par, and only then."""

from pathlib import Path

import msgspec
import pytest

from secondsource.core.fleet import Pool
from secondsource.core.parity_record import ParityRecord, Ruling, identity_of, record_path
from secondsource.gateway.parity_verdicts import ParityVerdicts
from secondsource.policy.routing import Router, Wait, Wanted
from tests.fleets import MODEL, fleet, pool, router

NEW = pool("new", require_parity=True)


def write(directory: Path, ruling: Ruling, of: Pool = NEW) -> None:
    path = record_path(directory, of.name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.encode(ParityRecord(ruling=ruling, identity=identity_of(of))))


def judged(directory: Path, judged_pool: Pool = NEW) -> Router:
    over = router(judged_pool)
    ParityVerdicts(fleet(judged_pool, state_dir=str(directory))).refresh(over)
    return over


def test_without_a_ruling_there_is_no_traffic(tmp_path: Path) -> None:
    over = judged(tmp_path)
    assert over.choose(Wanted(MODEL), 0.0) is None
    assert not over.has(Wanted(MODEL), 0.0)
    assert not over.ready(MODEL)
    assert over.soonest(MODEL, 3.0) == 3.0


@pytest.mark.parametrize(("ruling", "admitted"), [(one, one is Ruling.AT_PAR) for one in Ruling])
def test_only_at_par_admits(tmp_path: Path, ruling: Ruling, admitted: bool) -> None:
    write(tmp_path, ruling)
    assert judged(tmp_path).ready(MODEL) is admitted


@pytest.mark.parametrize("changed", ["supplier", "chip", "model", "upstream_model"])
def test_a_ruling_on_what_the_pool_was_before_is_none(tmp_path: Path, changed: str) -> None:
    write(tmp_path, Ruling.AT_PAR, msgspec.structs.replace(NEW, **{changed: "other"}))
    assert not judged(tmp_path).ready(MODEL)


def test_more_replicas_need_no_new_ruling(tmp_path: Path) -> None:
    write(tmp_path, Ruling.AT_PAR)
    assert judged(tmp_path, pool("new", 3, require_parity=True)).ready(MODEL)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"ruling": "splendid"}', b"[]"])
def test_a_damaged_file_is_no_ruling(tmp_path: Path, damage: bytes) -> None:
    write(tmp_path, Ruling.AT_PAR)
    record_path(tmp_path, "new").write_bytes(damage)
    assert not judged(tmp_path).ready(MODEL)


def test_a_change_is_seen_while_serving_and_no_failover_goes_there(tmp_path: Path) -> None:
    old = pool("old", max_concurrency=1)
    over = router(old, NEW)
    verdicts = ParityVerdicts(fleet(old, NEW, state_dir=str(tmp_path)))
    verdicts.refresh(over)
    over.replicas[0].in_flight = 1
    assert over.choose(Wanted(MODEL), 0.0) == Wait(0.0)  # not the other pool, free as it is
    write(tmp_path, Ruling.AT_PAR)
    verdicts.refresh(over)
    assert over.choose(Wanted(MODEL), 0.0) is over.replicas[1]
    write(tmp_path, Ruling.NOT_AT_PAR)
    verdicts.refresh(over)
    assert over.choose(Wanted(MODEL), 0.0) == Wait(0.0)
