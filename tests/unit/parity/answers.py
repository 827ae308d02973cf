"""Answers, comparisons and judges for the unit tests of parity, everything open to change."""

from math import log
from typing import Any

from secondsource.parity.comparison import Comparison, Exchange, Pair, Spot
from secondsource.parity.judging import Judge
from secondsource.parity.probes import STRUCTURED, Kind
from secondsource.parity.wire import Answer, Position, Token


def position(chosen: str, **shares: float) -> Position:
    """Return a position of these probabilities."""
    ranked = sorted(shares.items(), key=lambda one: -one[1])
    return Position(chosen.encode(), tuple(Token(text.encode(), log(share)) for text, share in ranked))


def answer(*positions: Position, **changes: Any) -> Answer:
    """Return an answer of these positions."""
    text = b"".join(one.chosen for one in positions).decode()
    fields: dict[str, Any] = {"status": 200, "text": text, "positions": positions, "finish": "stop"}
    return Answer(**(fields | {"prompt_tokens": 7, "answer_tokens": len(positions)} | changes))


def exchange(a: Answer, b: Answer, kind: Kind = Kind.TALK, **changes: Any) -> Exchange:
    """Return what was said about one probe."""
    fields: dict[str, Any] = {"kind": kind, "number": 0, "replica_a": "a", "replica_b": "b", "pairs": (Pair(a, b),)}
    return Exchange(**(fields | changes))


def comparison(kind: Kind, gap: float = 0.0, **changes: Any) -> Comparison:
    """Return a comparison at one position, with nothing wrong but the gap."""
    fields: dict[str, Any] = {
        "kind": kind,
        "number": 0,
        "replica": "a",
        "answered": (True, True),
        "spots": () if kind in STRUCTURED else (Spot(0, True, gap, gap**2),) * 3,
        "strays": None if kind in STRUCTURED else False,
        "valid": (True, True) if kind in STRUCTURED else None,
        "one_voiced": (False, False) if kind is Kind.SAMPLING else None,
        "prompt_tokens": (9, 9),
        "answer_tokens": (9, 9),
    }
    return Comparison(**(fields | changes))


def judged(probes: int, changes: dict[Kind, dict[str, Any]], *, logprobs: bool = True) -> Judge:
    """Return the judge of a run in which probes of some kinds are changed in some way."""
    judge = Judge(logprobs=logprobs)
    while len(judge.comparisons) < probes and not judge.is_done:
        kind, number = judge.next_probe()
        judge.take(comparison(kind, **({"number": number} | changes.get(kind, {}))))
    return judge
