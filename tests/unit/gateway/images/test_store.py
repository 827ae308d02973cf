"""The jobs of a state directory: claimed once by however many, whole after a death, and let go of in time."""

import sqlite3
from pathlib import Path

import msgspec
import pytest

from secondsource.core.errors import InputError
from secondsource.core.fleet import ImageTerms
from secondsource.gateway.images.alive import SignOfLife, lives, remove_dead
from secondsource.gateway.images.store import FILE, Answer, Store
from secondsource.policy.image_jobs import Job, Status, Verdict

ANSWER = Answer(b"application/json", [(b"x-secondsource-pool", b"first")], b'{"data":[]}\n{}')


def new(number: int = 1, *, key: str = "", owner: str = "me", began: float = 100.0, background: bool = False) -> Job:
    return Job(
        job_id=f"imgjob_{number}",
        tenant="acme",
        lane="paid",
        key_id="k",
        idempotency_key=key,
        fingerprint="f",
        request_id=f"req_{number}",
        owner=owner,
        began=began,
        background=background,
    )


def alive(_: Job) -> bool:
    return True


def dead(_: Job) -> bool:
    return False


def answers(store: Store) -> list[str]:
    return sorted(path.name for path in store.directory.glob("*.answer"))


def test_two_processes_claim_one_job(tmp_path: Path) -> None:
    one, two = Store(tmp_path, ImageTerms()), Store(tmp_path, ImageTerms())
    assert one.submit(new(1, key="k"), b"", alive).verdict is Verdict.START
    joined = two.submit(new(2, key="k"), b"", alive)
    assert (joined.verdict, joined.job.job_id) == (Verdict.JOIN, "imgjob_1")
    assert two.submit(new(3), b"", alive).job.job_id == "imgjob_1"


def test_a_request_brings_its_key_to_a_job_that_had_none(tmp_path: Path) -> None:
    store = Store(tmp_path, ImageTerms())
    store.submit(new(1), b"", alive)
    assert store.submit(new(2, key="k"), b"", alive).verdict is Verdict.JOIN
    changed = msgspec.structs.replace(new(3, key="k"), fingerprint="g")
    assert store.submit(changed, b"", alive).verdict is Verdict.CONFLICT


def test_an_answer_comes_back_as_it_was_and_is_had_once_without_a_key(tmp_path: Path) -> None:
    store = Store(tmp_path, ImageTerms())
    store.submit(new(1), b"", alive)
    store.keep("imgjob_1", ANSWER)
    store.done("imgjob_1", 101.0, len(ANSWER.body))
    assert store.submit(new(2, began=102.0), b"", alive).verdict is Verdict.REPLAY
    assert store.read("imgjob_1") == ANSWER
    store.had("imgjob_1")
    assert store.submit(new(3), b"", alive).verdict is Verdict.START
    assert store.read("imgjob_1") == ANSWER, "somebody else may be reading it"
    store.sweep(110.0)
    assert answers(store) == ["imgjob_1.answer"]
    store.sweep(112.0)
    assert answers(store) == []


def test_an_answer_that_nobody_fetched_waits_for_as_long_as_clients_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path, ImageTerms(comes_back_s=10.0))
    store.submit(new(1), b"", alive)
    store.keep("imgjob_1", ANSWER)
    store.done("imgjob_1", 101.0, len(ANSWER.body))
    assert store.submit(new(2, began=110.0), b"", alive).verdict is Verdict.REPLAY
    assert store.submit(new(3, began=112.0), b"", alive).verdict is Verdict.START


def test_a_death_after_the_answer_was_written_loses_nothing(tmp_path: Path) -> None:
    """The attempt was not settled, so that nobody was billed; the retry has the answer for nothing."""
    store = Store(tmp_path, ImageTerms())
    store.submit(new(1, key="k"), b"", alive)
    store.keep("imgjob_1", ANSWER)  # and then the process dies, before it notes that the job is done
    found = Store(tmp_path, ImageTerms()).submit(new(2, key="k"), b"", dead)
    assert (found.verdict, found.job.status) == (Verdict.REPLAY, Status.DONE)


def test_a_death_before_it_is_gone_on_with_once(tmp_path: Path) -> None:
    store = Store(tmp_path, ImageTerms())
    store.submit(new(1, key="k", owner="dead"), b"", alive)

    def is_alive(job: Job) -> bool:
        return job.owner != "dead"

    resumed = store.submit(new(2, key="k"), b"", is_alive)
    assert (resumed.verdict, resumed.job.job_id, resumed.job.request_id) == (Verdict.RESUME, "imgjob_1", "req_2")
    assert store.submit(new(3, key="k"), b"", is_alive).verdict is Verdict.JOIN


def test_only_a_job_in_the_background_keeps_what_was_asked(tmp_path: Path) -> None:
    store = Store(tmp_path, ImageTerms())
    store.submit(new(1, key="k"), b"secret prompt", alive)
    assert store.resume("imgjob_1", "me", "req_9", dead) is None
    store.submit(new(2, key="k", background=True), b"secret prompt", alive)
    assert store.resume("imgjob_1", "me", "req_9", alive) is None
    taken = store.resume("imgjob_1", "heir", "req_9", dead)
    assert taken is not None
    job, body = taken
    assert (job.owner, job.request_id, job.runs, body) == ("heir", "req_9", 2, b"secret prompt")
    store.failed("imgjob_1", 101.0, 502, b"{}")
    assert b"secret prompt" not in b"".join(row or b"" for (row,) in rows(tmp_path, "body"))


def rows(directory: Path, column: str) -> list[tuple[bytes | None]]:
    connection = sqlite3.connect(directory / "images" / FILE)
    try:
        return connection.execute(f"SELECT {column} FROM job").fetchall()
    finally:
        connection.close()


def test_what_failed_is_started_anew_under_the_same_key(tmp_path: Path) -> None:
    store = Store(tmp_path, ImageTerms())
    store.submit(new(1, key="k"), b"", alive)
    store.failed("imgjob_1", 101.0, 502, b"{}")
    assert store.submit(new(2, key="k"), b"", alive).verdict is Verdict.START
    store.failed("imgjob_2", 102.0, 502, b"{}")
    assert store.submit(new(3, key="k"), b"", alive).verdict is Verdict.START


def test_what_is_old_or_too_much_is_let_go_of(tmp_path: Path) -> None:
    store = Store(tmp_path, ImageTerms(kept_s=100.0, kept_bytes=2 * 1024 + 2 * len(ANSWER.body)))
    for number in range(1, 5):
        store.submit(msgspec.structs.replace(new(number, key=f"k{number}"), fingerprint=f"f{number}"), b"", alive)
        store.keep(f"imgjob_{number}", ANSWER)
        store.done(f"imgjob_{number}", 100.0 + number, len(ANSWER.body))
    store.sweep(105.0)
    assert answers(store) == ["imgjob_3.answer", "imgjob_4.answer"]
    store.sweep(203.5)
    assert answers(store) == ["imgjob_4.answer"]
    claim = store.submit(msgspec.structs.replace(new(9, key="k1"), fingerprint="f1"), b"", alive)
    assert claim.verdict is Verdict.START
    store.sweep(1_000.0)
    assert (answers(store), rows(tmp_path, "job_id")) == ([], [])


def test_a_job_whose_answer_has_gone_is_started_anew(tmp_path: Path) -> None:
    store = Store(tmp_path, ImageTerms())
    store.submit(new(1, key="k"), b"", alive)
    store.keep("imgjob_1", ANSWER)
    store.done("imgjob_1", 101.0, len(ANSWER.body))
    (store.directory / "imgjob_1.answer").unlink()
    assert store.submit(new(2, key="k"), b"", alive).verdict is Verdict.START


def test_orphans_are_removed(tmp_path: Path) -> None:
    store = Store(tmp_path, ImageTerms())
    store.submit(new(1), b"", alive)
    for name in ("imgjob_1.answer", "imgjob_8.answer", "imgjob_9.part"):
        (store.directory / name).write_bytes(b"{}\n")
    store.remove_orphans()
    assert answers(store) == ["imgjob_1.answer"]
    assert list(store.directory.glob("*.part")) == []


def test_a_damaged_file_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="move it away"):
        Store(tmp_path, ImageTerms())


def test_another_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path, ImageTerms()).close()
    connection = sqlite3.connect(tmp_path / "images" / FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InputError, match="its schema is 99"):
        Store(tmp_path, ImageTerms())


def test_a_sign_of_life_ends_with_its_process(tmp_path: Path) -> None:
    life, other = SignOfLife(tmp_path), SignOfLife(tmp_path)
    assert lives(tmp_path, life.owner)
    assert not lives(tmp_path, "nobody")
    life.end()
    assert not lives(tmp_path, life.owner)
    (tmp_path / "left.alive").touch()  # as a killed process leaves it
    remove_dead(tmp_path)
    assert [path.stem for path in tmp_path.glob("*.alive")] == [other.owner]
    other.end()
