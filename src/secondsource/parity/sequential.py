"""Wald's sequential probability ratio test of a share of probes: is it `at_par` or less, or `faulty` or more.

The ratio of the two likelihoods is a martingale under either hypothesis, so by Ville's inequality the probability
that it ever passes 1 / alpha when the share is `at_par` is at most alpha, and that it ever falls below beta when the
share is `faulty` at most beta, whenever one looks. A. Wald, Annals of Mathematical Statistics 16 (1945), with these
bounds in place of his approximate ones, which would be a little narrower.
"""

import math
from enum import StrEnum

import msgspec


class Decision(StrEnum):
    """How a test stands."""

    OPEN = "open"
    ACCEPTED = "accepted"  # the share is that of a pool at par
    ALARMED = "alarmed"


class Hypotheses(msgspec.Struct, frozen=True, kw_only=True):
    """Two shares of probes, and the probabilities of deciding wrongly between them."""

    at_par: float
    faulty: float
    alpha: float  # of an alarm when the share is `at_par`
    beta: float  # of none when it is `faulty`


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What has been seen, and what it decides; a decision stands."""

    seen: int = 0
    hits: int = 0
    log_ratio: float = 0.0
    decision: Decision = Decision.OPEN


def after(evidence: Evidence, hypotheses: Hypotheses, *, hit: bool) -> Evidence:
    """Return the evidence after one more probe. Once decided, probes are counted and change nothing."""
    numerator, denominator = hypotheses.faulty, hypotheses.at_par
    step = math.log(numerator / denominator) if hit else math.log((1 - numerator) / (1 - denominator))
    seen, hits = evidence.seen + 1, evidence.hits + hit
    if evidence.decision is not Decision.OPEN:
        return msgspec.structs.replace(evidence, seen=seen, hits=hits)
    ratio = evidence.log_ratio + step
    decision = Decision.OPEN
    if ratio >= math.log(1 / hypotheses.alpha):
        decision = Decision.ALARMED
    elif ratio <= math.log(hypotheses.beta):
        decision = Decision.ACCEPTED
    return Evidence(seen=seen, hits=hits, log_ratio=ratio, decision=decision)
