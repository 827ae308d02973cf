"""What a replica's answer means: whose fault an error is, and when to come back."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secondsource.core.records import Outcome
from secondsource.gateway.wire.verdicts import (
    CALLERS_OWN,
    OVERFLOW_CODES,
    broken_off,
    outcome_of,
    parse_answer,
    retry_after_s,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("status", sorted(CALLERS_OWN))
def test_the_callers_own_errors(status: int) -> None:
    assert outcome_of(status, b'{"error":{"message":"no such parameter"}}') is Outcome.CALLER_ERROR


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 408, 500, 502, 503, 529])
def test_errors_that_are_not(status: int) -> None:
    assert outcome_of(status, b"") is Outcome.SERVER_ERROR


def test_success_and_throttling() -> None:
    assert outcome_of(501, b"") is Outcome.NOT_OFFERED
    assert outcome_of(200, b"") is Outcome.OK
    assert outcome_of(429, b"maximum context length") is Outcome.THROTTLED


@pytest.mark.parametrize(
    "body",
    [
        *({"error": {"message": "x", "code": code}} for code in sorted(OVERFLOW_CODES)),
        *({"error": {"message": "x", "type": code, "code": 400}} for code in sorted(OVERFLOW_CODES)),
        {"error": {"message": "This model's maximum context length is 4096 tokens"}},
        {"object": "error", "message": "the Context Length is 4096", "code": 400},
        {"error": "`inputs` tokens + `max_new_tokens` must be <= max_total_tokens"},
        {"detail": [{"msg": "exceeds the context window"}]},
    ],
)
def test_an_overflow_in_every_engines_words(body: object) -> None:
    raw = json.dumps(body).encode()
    assert outcome_of(400, raw) is Outcome.CONTEXT_OVERFLOW
    assert outcome_of(500, raw) is Outcome.SERVER_ERROR


@given(
    st.sampled_from([400, 413, 422]),
    st.binary(max_size=40) | st.builds(lambda text: json.dumps(text).encode(), st.text()),
)
def test_any_body_of_an_error_is_judged(status: int, body: bytes) -> None:
    assert outcome_of(status, body) in (Outcome.CALLER_ERROR, Outcome.CONTEXT_OVERFLOW)


@pytest.mark.parametrize(
    ("choices", "broken"),
    [
        ([{"finish_reason": "stop"}], False),
        ([{"finish_reason": "stop"}, {"finish_reason": "abort"}], True),
        ([{"finish_reason": "error"}], True),
        ([], False),
        (None, False),
        ("odd", False),
        ([5], False),
    ],
)
def test_an_answer_that_the_replica_gave_up(choices: object, broken: bool) -> None:
    assert broken_off(parse_answer(json.dumps({"choices": choices}).encode())) is broken


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after": b" 1.5 "}, 1.5),
        ({b"retry-after": b"-3"}, 0.0),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b""}, None),
        ({b"retry-after-ms": b"250", b"retry-after": b"9"}, 0.25),
        ({b"retry-after-ms": b"x", b"retry-after": b"9"}, 9.0),
        ({b"retry-after": format_datetime(NOW, usegmt=True).encode()}, 60.0),
        ({b"retry-after": b"Fri, 02 Jan 2026 03:04:05"}, 60.0),
        ({b"retry-after": b"Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
    ],
)
def test_when_to_come_back(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW.timestamp() - 60.0) == seconds


DATES = st.from_regex(
    r"\A[A-Z][a-z]{2}, \d{1,3} (Jan|Feb|Xyz) \d{1,6} \d{1,3}:\d\d:\d\d ([+-]\d{1,9}|GMT|[A-Z]{1,4})?\Z"
)


@given(st.binary(max_size=40) | DATES.map(str.encode) | st.floats().map(lambda value: str(value).encode()))
def test_any_retry_after_is_seconds_or_nothing(value: bytes) -> None:
    seconds = retry_after_s({b"retry-after": value}, 1.7e9)
    assert seconds is None or seconds >= 0.0
