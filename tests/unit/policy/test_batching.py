"""What a slot is worth, learned from how fast answers are written."""

import pytest

from secondsource.policy.batching import Batching

SLOTS = 16


def learned(alone_s: float, each_s: float, slots: int = SLOTS) -> Batching:
    over = Batching()
    for _ in range(100):
        for used in range(slots // 2, slots + 1):
            over.wrote(41, 40 * (alone_s + each_s * used), used / slots)
    return over


def made(alone_s: float, each_s: float, used: float) -> float:
    return used / (alone_s + each_s * used)


def test_as_many_slots_are_left_free_as_cost_what_may_be_lost() -> None:
    kept = learned(0.03, 0.002).most_kept(0.05)
    assert kept is not None
    lost = 1.0 - made(0.03, 0.002, SLOTS * (1.0 - kept)) / made(0.03, 0.002, SLOTS)
    assert lost == pytest.approx(0.05, rel=0.02)


def test_slots_that_share_what_one_could_have_cost_nothing() -> None:
    assert learned(0.0, 0.01).most_kept(0.05) == pytest.approx(1.0)


def test_slots_that_slow_nobody_cost_their_share() -> None:
    assert learned(0.03, 0.0).most_kept(0.05) == pytest.approx(0.05)


def test_nothing_is_known_from_one_load_alone_or_from_short_answers() -> None:
    over = Batching()
    assert over.most_kept(0.05) is None
    for _ in range(100):
        over.wrote(41, 2.0, 1.0)
        over.wrote(2, 0.5, 0.1)
    assert over.most_kept(0.05) is None


def test_what_was_seen_once_says_little_beside_what_is_seen_always() -> None:
    over = learned(0.03, 0.002)
    before = over.most_kept(0.05)
    over.wrote(41, 40 * 0.3, 0.4)
    after = over.most_kept(0.05)
    assert before is not None
    assert after is not None
    assert after == pytest.approx(before, rel=0.5)


def test_an_answer_says_as_much_as_it_has_tokens() -> None:
    """A short one may have stood still while a long prompt was read, where both share one processor."""
    over = learned(0.03, 0.002)
    for _ in range(20):
        over.wrote(101, 100 * (0.03 + 0.002 * SLOTS), 1.0)
        over.wrote(9, 5 * 8 * (0.03 + 0.002 * SLOTS), 1.0)
    kept = over.most_kept(0.05)
    assert kept is not None
    assert kept < 0.5  # 0.1 without the short ones; 1 if each said as much as a long one
