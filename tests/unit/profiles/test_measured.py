"""Corrections from a ledger: pace, company and what they say of the prediction."""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from secondsource.catalog.load import one_chip, shipped_catalog
from secondsource.core.demand import SizeClass, Slo
from secondsource.core.errors import InputError
from secondsource.gateway.books.ledger_schema import TABLES
from secondsource.profiles.capacity import capacity, shipped_profiles
from secondsource.profiles.efficiency import Evidence, shipped_efficiencies
from secondsource.profiles.measured import ledger_corrections, read_measured
from secondsource.profiles.models import one_model
from secondsource.profiles.predict import speed
from secondsource.profiles.roofline import Precision, Replica

SECOND = 1_000_000_000


def ledger(path: Path, tpot_s: float, together: int, answers: int = 40) -> Path:
    """Write a ledger of waves of `together` answers at once, 101 tokens each."""
    duration = int((0.5 + 100 * tpot_s) * SECOND)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO writer (writer_id, name, sequence, offset) VALUES (1, 'w', 0, 0)")
        for number in range(answers):
            connection.execute(
                "INSERT INTO attempt (attempt_id, request_id, number, kind, at_ns, tenant, lane, key_id, endpoint, "
                "model, streamed, pool, supplier, chip, replica, writer_id, settled_at_ns, outcome, status, "
                "duration_ns, first_token_ns, tokens_in, tokens_out) VALUES (?, ?, 1, 'first', ?, 't', 'l', '', "
                "'/v1/chat/completions', 'chat', 1, 'p', 's', 'h100-sxm', 'r', 1, 1, 'ok', 200, ?, ?, 1000, 101)",
                (f"{number}.1", str(number), number // together * 2 * duration, duration, SECOND // 2),
            )
    return path


def replica() -> Replica:
    return Replica(chip=one_chip(shipped_catalog(date(2027, 1, 1)), "h100-sxm"), chips=8, precision=Precision.FP8)


def test_pace_and_company_are_read_from_the_attempts(tmp_path: Path) -> None:
    (found,) = read_measured(ledger(tmp_path / "ledger.sqlite3", tpot_s=0.02, together=4))
    assert (found.model, found.chip, found.pool, found.answers) == ("chat", "h100-sxm", "p", 40)
    assert found.tpot_s == pytest.approx(0.02)
    assert found.first_s == pytest.approx(0.5)
    assert found.sequences == pytest.approx(2.5)  # a wave of four starts as the 1st, 2nd, 3rd and 4th
    assert found.tokens == 40 * 101


def test_a_correction_makes_the_prediction_what_was_measured(tmp_path: Path) -> None:
    profiles = read_measured(ledger(tmp_path / "ledger.sqlite3", tpot_s=0.03, together=8))
    (found,) = ledger_corrections(profiles, {"p": replica()}, shipped_efficiencies(), {"p": "llama-3.1-70b"})
    fast = speed(one_model("llama-3.1-70b"), replica(), shipped_efficiencies(), measured=found)
    assert fast.evidence is Evidence.MEASURED
    assert fast.tpot_s(profiles[0].sequences, 1000, 101) == pytest.approx(0.03)


def test_capacity_takes_our_own_measurement_before_a_published_one(tmp_path: Path) -> None:
    slow = read_measured(ledger(tmp_path / "ledger.sqlite3", tpot_s=0.045, together=8))
    measured = ledger_corrections(slow, {"p": replica()}, shipped_efficiencies(), {"p": "llama-3.1-70b"})
    size, slo = SizeClass(name="chat", input_tokens=1000, output_tokens=101), Slo(tpot_s=0.05)
    plain = shipped_profiles()
    ours = type(plain)(chips=plain.chips, models=plain.models, efficiencies=plain.efficiencies, measured=measured)
    before = capacity("llama-3.1-70b", "h100-sxm", 8, size, slo, 1)
    after = capacity("llama-3.1-70b", "h100-sxm", 8, size, slo, 1, profiles=ours)
    assert after.evidence is Evidence.MEASURED
    assert after.requests_per_s < before.requests_per_s


def test_few_answers_or_a_model_without_numbers_correct_nothing(tmp_path: Path) -> None:
    few = read_measured(ledger(tmp_path / "few.sqlite3", tpot_s=0.02, together=1, answers=5))
    many = read_measured(ledger(tmp_path / "many.sqlite3", tpot_s=0.02, together=1))
    assert not ledger_corrections(few, {"p": replica()}, shipped_efficiencies(), {"p": "llama-3.1-70b"})
    assert not ledger_corrections(many, {"p": replica()}, shipped_efficiencies())  # "chat" is a public name
    assert not ledger_corrections(many, {}, shipped_efficiencies(), {"p": "llama-3.1-70b"})


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite3"
    path.write_text("no database", encoding="utf-8")
    for wrong in (path, tmp_path / "missing.sqlite3"):
        with pytest.raises(InputError, match="not a readable ledger"):
            read_measured(wrong)
