"""Why a pool is not at par: what each fault leaves behind, read off the comparisons.

The sequential tests say *that* the pools differ, at stated rates. What is said here of the cause is the likeliest
reading of the evidence, and names that evidence, so that a person can disagree.
"""

import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from secondsource.parity.comparison import Comparison
from secondsource.parity.judging import Judge
from secondsource.parity.probes import RAW, STRUCTURED, Kind

OTHER_MODEL_TOP1 = 0.5  # less than this, under the same tokens, is no matter of precision; or, in
OTHER_MODEL_DIVERGENCE = 0.4  # nats: more than this, under the same tokens, is no matter of precision
MOSTLY = 0.5  # of a kind's probes


class CauseName(StrEnum):
    """The faults that are told apart."""

    CONTEXT = "a smaller context"
    TEMPERATURE = "temperature ignored"
    TEMPLATE = "another chat template"
    TOOL_SCHEMA = "tools are shown to the model in another way"
    SCHEMA = "answers do not follow the schema"
    BOS = "the BOS token"
    TOKENIZER = "another tokenizer"
    POSITIONS = "positions are encoded in another way (RoPE base or scaling)"
    MODEL = "another model"
    WEIGHTS = "weights or arithmetic of another precision (quantised)"
    LENGTH = "answers of another length"
    REFUSES = "requests are refused"
    UNKNOWN = "a difference of a kind not known here"


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A likely cause, and what speaks for it."""

    name: CauseName
    evidence: str


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What some comparisons have in common; gaps and divergences in nats per position."""

    positions: int
    departed: int  # probes
    compared: int  # probes with positions
    top1_agreement: float
    divergence_mean: float
    gap_median: float
    gap_p99: float
    gap_max: float
    prompt_token_differences: tuple[int, ...]  # the pool's count less the other's, each difference once


def features_of(found: Sequence[Comparison], tolerance: float) -> Features:
    """Return the features of these comparisons; zeros where there is nothing to compare."""
    spots = [spot for one in found for spot in one.spots]
    gaps = sorted(spot.gap for spot in spots) or [0.0]
    most = max(1, len(spots))
    differences = {one.prompt_tokens[0] - one.prompt_tokens[1] for one in found if one.prompt_tokens is not None}
    return Features(
        positions=len(spots),
        departed=sum(one.gap > tolerance for one in found if one.spots),
        compared=sum(bool(one.spots) for one in found),
        top1_agreement=sum(spot.agrees for spot in spots) / most,
        divergence_mean=sum(spot.divergence for spot in spots) / most,
        gap_median=median(gaps),
        gap_p99=gaps[math.ceil(0.99 * len(gaps)) - 1],
        gap_max=gaps[-1],
        prompt_token_differences=tuple(sorted(differences)),
    )


def median(values: Sequence[float]) -> float:
    """Return the middle of the values, or the mean of the two in the middle; 0 of none."""
    if not values:
        return 0.0
    ranked = sorted(values)
    middle = len(ranked) // 2
    return float(ranked[middle]) if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


def causes_of(judge: Judge) -> tuple[Cause, ...]:
    """Return the likely causes of the judge's alarms, the likeliest first."""
    found = judge.comparisons
    alarms = judge.alarms
    causes = [*_sampling(alarms), *_context(found, judge.tolerance)]
    explained = any(cause.name is CauseName.CONTEXT for cause in causes)
    causes += _refusals(found, alarms, explained=explained)
    if any(alarm.startswith(("departs", "differs")) for alarm in alarms) and not causes:
        causes += _distribution(found, judge.tolerance)
    if any(alarm.startswith("invalid") for alarm in alarms):
        causes.append(Cause(name=CauseName.SCHEMA, evidence="the other pool's answers to the same probes do"))
    if any(alarm.startswith(("longer", "shorter")) for alarm in alarms) and not causes:
        causes.append(Cause(name=CauseName.LENGTH, evidence=", ".join(alarms)))
    return tuple(causes) or (Cause(name=CauseName.UNKNOWN, evidence=", ".join(alarms)),)


def _sampling(alarms: Sequence[str]) -> list[Cause]:
    evidence = []
    if any(alarm.startswith("temperature") for alarm in alarms):
        evidence.append("at temperature 1 it says what it says at 0, where the other pool does not")
    if "strays" in alarms:
        evidence.append("at temperature 0 it does not say the token that it finds likeliest itself")
    return [Cause(name=CauseName.TEMPERATURE, evidence="; ".join(evidence))] if evidence else []


def _context(found: Sequence[Comparison], tolerance: float) -> list[Cause]:
    """Long prompts refused, or answered as if their beginning had been lost, while short ones are at par."""
    long = [one for one in found if one.kind is Kind.LONG]
    short = [one for one in found if one.kind is not Kind.LONG]
    refused = [one for one in long if one.refused is not None]
    if refused and not any(one.refused for one in short):
        return [Cause(name=CauseName.CONTEXT, evidence=f"it refuses long prompts: {refused[0].refused}")]
    cut = [one.prompt_tokens for one in long if one.prompt_tokens is not None]
    lost = [(a, b) for a, b in cut if a < 0.9 * b]
    if lost:
        a, b = max(lost, key=lambda pair: pair[1])
        return [Cause(name=CauseName.CONTEXT, evidence=f"of a prompt of {b} tokens it reads {a}")]
    if _departing(long, tolerance) >= MOSTLY and _departing(short, tolerance) < 0.1:
        return [Cause(name=CauseName.CONTEXT, evidence="only long prompts are answered otherwise")]
    return []


def _refusals(found: Sequence[Comparison], alarms: Sequence[str], *, explained: bool) -> list[Cause]:
    if explained:
        return []
    kinds = [alarm.removeprefix("refuses: ") for alarm in alarms if alarm.startswith("refuses")]
    said = next((one.refused for one in found if one.refused is not None and one.kind in kinds), "")
    return [Cause(name=CauseName.REFUSES, evidence=f"of {', '.join(kinds)}: {said}")] if kinds else []


def _distribution(found: Sequence[Comparison], tolerance: float) -> list[Cause]:
    """Other probabilities for the next token: the template, the tokens before it, the positions or the weights."""
    raw = [one for one in found if one.kind in RAW]
    chat = [one for one in found if one.kind not in RAW and one.kind not in STRUCTURED]
    of_raw, of_chat = features_of(raw, tolerance), features_of(chat, tolerance)
    extra = _counts(of_chat)
    raw_heard = [one for one in raw if one.spots or one.same_text is not None]
    if len(raw_heard) >= 3 and _departing(raw, tolerance) < 0.2:
        only_tools = not any(of_chat.prompt_token_differences) and _departing(chat, tolerance) < MOSTLY
        if not only_tools:
            text = "text to go on with is answered alike, chats are not" + (f", and {extra}" if extra else "")
            return [Cause(name=CauseName.TEMPLATE, evidence=text)]
    differences = set(of_raw.prompt_token_differences)
    if differences == {-1}:
        return [Cause(name=CauseName.BOS, evidence="it is missing: every text has one token less")]
    if differences == {1}:
        text = "there is one too many: every text has one token more"
        return [Cause(name=CauseName.BOS, evidence=text)]
    if any(differences):
        text = f"the same text has other numbers of tokens ({_counts(of_raw)})"
        return [Cause(name=CauseName.TOKENIZER, evidence=text)]
    if not of_raw.positions and not of_chat.positions:
        return [Cause(name=CauseName.UNKNOWN, evidence="texts differ, and there are no log probabilities to say how")]
    return [_model(found, features_of(found, tolerance))]


def _model(found: Sequence[Comparison], features: Features) -> Cause:
    early, late = _gaps_by_context(found)
    if early is not None and late > 5 * max(early, 0.01):
        text = f"after a single word the probabilities are the same ({early:.3f} nats), later not ({late:.2f} nats)"
        return Cause(name=CauseName.POSITIONS, evidence=text)
    seen = (
        f"the same likeliest token at {features.top1_agreement:.0%} of {features.positions} positions, "
        f"divergence at least {features.divergence_mean:.2g} nats, from the first tokens on"
    )
    if features.top1_agreement < OTHER_MODEL_TOP1 or features.divergence_mean > OTHER_MODEL_DIVERGENCE:
        return Cause(name=CauseName.MODEL, evidence=seen)
    return Cause(name=CauseName.WEIGHTS, evidence=seen)


def _gaps_by_context(found: Sequence[Comparison]) -> tuple[float | None, float]:
    """Return the largest gap right after one token (and a BOS), None where nobody was asked, and the mean of others.

    Attention over one token does not depend on how positions are encoded, and hardly over two: a fault there shows
    in longer text alone, while weights, the arithmetic and another model show at once.
    """
    early = [one.spots[0].gap for one in found if one.spots and _context_of(one) in (1, 2)]
    late = [spot.gap for one in found for spot in one.spots[1:]]
    return (max(early) if early else None), (sum(late) / len(late) if late else 0.0)


def _context_of(found: Comparison) -> int:
    return found.prompt_tokens[1] if found.prompt_tokens is not None and found.kind is Kind.PROSE else 0


def _departing(found: Sequence[Comparison], tolerance: float) -> float:
    """Return the share of probes that depart, by log probabilities or else by their texts."""
    telling = [
        one.gap > tolerance if one.spots else not one.same_text
        for one in found
        if one.spots or one.same_text is not None
    ]
    return sum(telling) / len(telling) if telling else 0.0


def _counts(features: Features) -> str:
    told = [f"{difference:+d}" for difference in features.prompt_token_differences if difference]
    return f"prompts differ by {', '.join(told[:4])} tokens" if told else ""
