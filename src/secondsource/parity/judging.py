"""The judge: a battery of sequential tests over the probes' comparisons, what to ask next, and when to stop.

Its false alarms are bounded over the whole run: `FALSE_ALARM` is shared out among the tests.
"""

from collections.abc import Callable, Sequence

import msgspec

from secondsource.core.parity_record import Ruling
from secondsource.parity.comparison import Comparison
from secondsource.parity.probes import COMPARED, STRUCTURED, Kind
from secondsource.parity.sequential import Decision, Evidence, Hypotheses, after

FALSE_ALARM = 0.001  # of a run with a pool that is at par: any alarm at all
MISSED = 0.01  # of one test, when its share of probes is that of a faulty pool
# The largest difference published between one model's bf16 log probabilities on H100 and on TPU is 0.064 nats.
TOLERANCE = 0.1
LEAST_PROBES_FOR_A_CAUSE = 36
TRIES = 10  # of a kind that says nothing, before it is given up
NEEDED = frozenset({Kind.LANGUAGES, Kind.TALK, Kind.ENDINGS, Kind.LONG})  # no parity without these

Reading = Callable[[Comparison, float], bool | None]


class Test(msgspec.Struct, frozen=True, kw_only=True):
    """One sequential test: which probes it counts, and what counts in them; `reading` None: the probe says nothing."""

    name: str
    kinds: frozenset[Kind]
    at_par: float
    faulty: float
    reading: Reading

    def hypotheses(self, tests: int) -> Hypotheses:
        """Return the two shares with this test's part of the run's false alarms."""
        return Hypotheses(at_par=self.at_par, faulty=self.faulty, alpha=FALSE_ALARM / tests, beta=MISSED)


def departs(found: Comparison, tolerance: float) -> bool | None:
    """Return whether log probabilities differ by more than the tolerance, as the root mean square over the answer."""
    return found.gap > tolerance if found.spots else None


def _differs(found: Comparison, _: float) -> bool | None:
    return None if found.same_text is None else not found.same_text


def _refuses(found: Comparison, _: float) -> bool | None:
    return found.refused is not None if found.answered[1] and (found.answered[0] or found.refused) else None


def _invalid(found: Comparison, _: float) -> bool | None:
    return None if found.valid is None or not found.valid[1] else not found.valid[0]


def _one_voiced(found: Comparison, _: float) -> bool | None:
    return None if found.one_voiced is None or found.one_voiced[1] else found.one_voiced[0]


def _strays(found: Comparison, _: float) -> bool | None:
    return found.strays


def _longer(found: Comparison, _: float) -> bool | None:
    return None if found.answer_tokens is None else _much_more(*found.answer_tokens)


def _shorter(found: Comparison, _: float) -> bool | None:
    return None if found.answer_tokens is None else _much_more(*reversed(found.answer_tokens))


def _much_more(one: int, other: int) -> bool:
    return one > 1.5 * other + 4


def battery(*, logprobs: bool) -> tuple[Test, ...]:
    """Return the tests of a run; without logprobs answers can only be compared as texts."""
    compared = frozenset(COMPARED)
    if logprobs:
        tests = [Test(name="departs", kinds=compared, at_par=0.02, faulty=0.15, reading=departs)]
        tests += [_of_kind("departs", kind, 0.02, 0.5, departs) for kind in COMPARED]
        tests.append(Test(name="strays", kinds=compared, at_par=0.02, faulty=0.3, reading=_strays))
    else:
        tests = [Test(name="differs", kinds=compared, at_par=0.2, faulty=0.6, reading=_differs)]
    tests += [_of_kind("refuses", kind, 0.01, 0.5, _refuses) for kind in Kind]
    tests += [_of_kind("invalid", kind, 0.05, 0.5, _invalid) for kind in Kind if kind in STRUCTURED]
    tests.append(_of_kind("temperature", Kind.SAMPLING, 0.3, 0.95, _one_voiced))
    tests.append(_of_kind("longer", Kind.ENDINGS, 0.25, 0.6, _longer))
    tests.append(_of_kind("shorter", Kind.ENDINGS, 0.25, 0.6, _shorter))
    return tuple(tests)


def _of_kind(name: str, kind: Kind, at_par: float, faulty: float, reading: Reading) -> Test:
    return Test(name=f"{name}: {kind}", kinds=frozenset({kind}), at_par=at_par, faulty=faulty, reading=reading)


# What a kind is asked for; without it, the other pool does not do such things. Every answer can be compared.
_TELLING = {kind: (f"departs: {kind}", "differs") for kind in COMPARED} | {
    Kind.JSON: (f"invalid: {Kind.JSON}",),
    Kind.TOOLS: (f"invalid: {Kind.TOOLS}",),
    Kind.SAMPLING: (f"temperature: {Kind.SAMPLING}",),
}


class Judge:
    """Takes comparisons one by one; owns the state of the tests of one run."""

    def __init__(self, *, logprobs: bool, tolerance: float = TOLERANCE) -> None:
        self.tolerance = tolerance
        self.tests = battery(logprobs=logprobs)
        self.evidence = {test.name: Evidence() for test in self.tests}
        self.comparisons: list[Comparison] = []
        self._hypotheses = {test.name: test.hypotheses(len(self.tests)) for test in self.tests}
        self._asked = dict.fromkeys(Kind, 0)
        self._seen = dict.fromkeys(Kind, 0)
        self._telling: set[Kind] = set()  # kinds of which a probe has said something about more than refusals

    def next_probe(self) -> tuple[Kind, int]:
        """Return which probe to ask next, and count it as asked: of the kinds that are open, the least asked."""
        kinds = [kind for kind in Kind if self._is_open(kind)] or list(Kind)
        kind = min(kinds, key=lambda one: self._asked[one])
        self._asked[kind] += 1
        return kind, self._asked[kind] - 1

    def _is_open(self, kind: Kind) -> bool:
        if kind in self.untested():
            return False
        undecided = any(
            kind in test.kinds and self.evidence[test.name].decision is Decision.OPEN for test in self._live_tests()
        )
        return undecided or (bool(self.alarms) and self._asked[kind] < 4)

    def take(self, found: Comparison) -> None:
        """Count a comparison in every test that it says something to."""
        self.comparisons.append(found)
        self._seen[found.kind] += 1
        for test in self.tests:
            hit = test.reading(found, self.tolerance) if found.kind in test.kinds else None
            if hit is not None:
                self.evidence[test.name] = after(self.evidence[test.name], self._hypotheses[test.name], hit=hit)
                if test.name in _TELLING[found.kind]:
                    self._telling.add(found.kind)

    @property
    def alarms(self) -> tuple[str, ...]:
        """The tests that raised an alarm."""
        return tuple(name for name, found in self.evidence.items() if found.decision is Decision.ALARMED)

    def untested(self) -> frozenset[Kind]:
        """Return the kinds that were asked again and again and said nothing: the other pool does not do them."""
        return frozenset(kind for kind, seen in self._seen.items() if seen >= TRIES and kind not in self._telling)

    def _live_tests(self) -> Sequence[Test]:
        """Return the tests that some kind can still feed."""
        gone = self.untested()
        return [test for test in self.tests if test.kinds - gone]

    @property
    def is_done(self) -> bool:
        """Whether nothing more need be asked: an alarm and enough to tell its cause, or every test decided."""
        if self.alarms:
            return len(self.comparisons) >= LEAST_PROBES_FOR_A_CAUSE
        return all(self.evidence[test.name].decision is not Decision.OPEN for test in self._live_tests())

    @property
    def ruling(self) -> Ruling:
        """The ruling on what has been seen so far."""
        if self.alarms:
            return Ruling.NOT_AT_PAR
        if self.comparisons and self.is_done and not self.untested() & NEEDED:
            return Ruling.AT_PAR
        return Ruling.NOT_ENOUGH_EVIDENCE
