"""Whatever is appended, absorbed, killed and torn, in any order: the ledger equals a model in memory."""

import os
import shutil
import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from secondsource.core.records import Outcome
from secondsource.gateway.books import absorption
from secondsource.gateway.books.journal import Journal
from secondsource.gateway.books.ledger import Ledger
from tests.ledger_records import ledger_rows, noted, reserved, settled

COLUMNS = "attempt_id, outcome, tokens_in, tokens_out, cost_nano_usd, tenant_nano_usd"
Row = tuple[str, str | None, int, int, int, int]


class BooksMachine(RuleBasedStateMachine):
    """Two writers and one owner; `written` is what each append claimed to have written."""

    @initialize(chunk=st.sampled_from([600, 2000, 1 << 20]), rotate_at=st.sampled_from([700, 3000, 1 << 20]))
    def start(self, chunk: int, rotate_at: int) -> None:
        self.state_dir = Path(tempfile.mkdtemp())
        self.saved_chunk = absorption.CHUNK_BYTES
        absorption.CHUNK_BYTES = chunk
        self.rotate_at = rotate_at
        self.started = 0
        self.requests = 0
        self.rows: dict[str, Row] = {}
        self.open_of: dict[str, list[str]] = {}
        self.torn = 0
        self.duplicates = 0
        self.journals = [self._journal(), self._journal()]
        self.ledger = Ledger(self.state_dir)

    def _journal(self) -> Journal:
        self.started += 1
        journal = Journal(self.state_dir / "journal", 0, self.started, self.rotate_at)
        self.open_of[journal.writer] = []
        return journal

    @rule(writer=st.integers(0, 1))
    def reserve(self, writer: int) -> None:
        self.requests += 1
        record = reserved(f"r{self.requests}")
        self.journals[writer].append(record)
        self.rows[record.attempt_id] = (record.attempt_id, None, 0, 0, 0, 0)
        self.open_of[self.journals[writer].writer].append(record.attempt_id)

    @rule(writer=st.integers(0, 1), pick=st.integers(0, 1000), tokens=st.integers(0, 2**40))
    def note(self, writer: int, pick: int, tokens: int) -> None:
        if opened := self.open_of[self.journals[writer].writer]:
            key = opened[pick % len(opened)]
            self.journals[writer].append(noted(key[:-2], tokens_out=tokens))
            self.journals[writer].flush()
            self.rows[key] = (key, None, 11, tokens, 900, 0)

    @rule(
        writer=st.integers(0, 1),
        pick=st.integers(0, 1000),
        tokens=st.integers(0, 2**40),
        cost=st.integers(0, 2**50),
        again=st.booleans(),
        outcome=st.sampled_from([Outcome.OK, Outcome.CUT]),
    )
    def settle(self, writer: int, pick: int, tokens: int, cost: int, again: bool, outcome: Outcome) -> None:
        if opened := self.open_of[self.journals[writer].writer]:
            key = opened.pop(pick % len(opened))
            part = cost if outcome is Outcome.OK else 0
            record = settled(key[:-2], tokens_out=tokens, cost_nano_usd=cost, tenant_nano_usd=part, outcome=outcome)
            self.journals[writer].append(record)
            self.rows[key] = (key, str(outcome), 11, tokens, cost, part)
            if again:
                self.journals[writer].append(msgspec.structs.replace(record, tokens_out=1))
                self.duplicates += 1
            self.journals[writer].flush()

    @rule(bound=st.sampled_from([1, 1000, 1 << 30]))
    def absorb(self, bound: int) -> None:
        self.ledger.absorb(bound)

    @rule()
    def owner_dies(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.state_dir)

    @rule(writer=st.integers(0, 1), torn_at=st.integers(0, 400))
    def writer_dies(self, writer: int, torn_at: int) -> None:
        journal = self.journals[writer]
        half = msgspec.json.encode(reserved("torn"))[:torn_at]
        os.write(journal._file, half)
        self.torn += bool(half)
        journal.close()
        for key in self.open_of.pop(journal.writer):
            name, _, *rest = self.rows[key]
            self.rows[key] = (name, "interrupted", *rest[:3], 0)  # type: ignore[assignment]
        self.journals[writer] = self._journal()

    @precondition(lambda self: self.requests % 5 == 0)
    @invariant()
    def everything_adds_up_once_it_is_absorbed(self) -> None:
        if not hasattr(self, "ledger"):
            return
        while self.ledger.absorb(1 << 30).more:
            pass
        found = ledger_rows(self.state_dir, f"SELECT {COLUMNS} FROM attempt")
        assert {row[0]: row for row in found} == self.rows
        assert len(found) == len(self.rows)
        counts = self.ledger.irregularities()
        assert counts.pop("torn_lines") == self.torn
        assert counts.pop("duplicate_settled") == self.duplicates
        assert not any(counts.values()), counts

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.requests = 0
            self.everything_adds_up_once_it_is_absorbed()
            self.ledger.close()
            for journal in self.journals:
                journal.close()
            absorption.CHUNK_BYTES = self.saved_chunk
            shutil.rmtree(self.state_dir)


TestBooks = BooksMachine.TestCase
TestBooks.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
