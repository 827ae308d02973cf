"""How long a replica will be reading, and whether to wait for a better one."""

from dataclasses import dataclass
from math import inf

import pytest

from secondsource.policy.reading import FIRST_S_PER_BYTE, Reading, ReadingSpeed, Spared, better_soon, calm, may_read_s

KIB = 1024
FIRST_S = KIB * FIRST_S_PER_BYTE


@dataclass
class Stands:
    reading: Reading
    in_flight: int
    slots: int = 16

    def has_room(self, *, urgent: bool = False) -> bool:
        return self.in_flight < self.slots

    def stands_idle(self) -> bool:
        return not self.in_flight


def standing(unread: int, in_flight: int, now: float = 0.0) -> Stands:
    reading = Reading(ReadingSpeed())
    reading.sent(unread, now)
    return Stands(reading, in_flight)


def test_what_was_sent_is_read_one_after_another() -> None:
    one = Reading(ReadingSpeed())
    assert one.left_s(0.0) == 0.0
    one.sent(KIB, 0.0)
    one.sent(KIB, 0.0)
    assert one.left_s(0.0) == pytest.approx(2 * FIRST_S)
    assert one.left_s(FIRST_S) == pytest.approx(FIRST_S)
    one.read(KIB, FIRST_S)
    assert one.left_s(FIRST_S) == pytest.approx(FIRST_S, rel=0.05)


def test_what_takes_longer_than_it_should_is_not_read_yet() -> None:
    one = Reading(ReadingSpeed())
    one.sent(KIB, 0.0)
    assert one.left_s(100.0) > 0.0
    one.left(KIB, 100.0)
    assert one.left_s(100.0) == 0.0


def test_the_speed_is_learned_from_the_time_between_first_tokens() -> None:
    speed = ReadingSpeed()
    one = Reading(speed)
    for turn in range(400):
        one.sent(KIB, float(turn))
        one.sent(KIB, float(turn))
        one.read(KIB, turn + 0.1)
        one.read(KIB, turn + 0.2)  # waited for the other
    assert KIB * speed.s_per_byte == pytest.approx(0.1, rel=0.05)


def test_short_prompts_at_a_slow_replica_are_learned_after_a_few() -> None:
    speed = ReadingSpeed()
    one = Reading(speed)
    for turn in range(5):
        one.sent(300, float(turn))
        one.read(300, turn + 0.5)
    assert 300 * speed.s_per_byte == pytest.approx(0.5, rel=0.5)


def test_what_is_read_for_long_already_will_be_for_a_while() -> None:
    one = Reading(ReadingSpeed())
    one.sent(300, 0.0)  # some milliseconds, as far as anybody knows
    assert one.left_s(4.0) >= 1.0


def test_prompts_that_are_read_together_are_read_fast() -> None:
    speed = ReadingSpeed()
    one = Reading(speed)
    for turn in range(400):
        for _ in range(4):
            one.sent(KIB, float(turn))
        for _ in range(4):
            one.read(KIB, turn + 0.1)
    assert 4 * KIB * speed.s_per_byte == pytest.approx(0.1, rel=0.05)


@dataclass
class Other:
    """What another process says."""

    until: float = 0.0
    heard: float = 0.0

    def write(self, until: float) -> None:
        self.heard = until

    def others(self) -> float:
        return self.until


def test_what_others_have_sent_is_read_first_and_teaches_nothing() -> None:
    speed, other = ReadingSpeed(), Other(until=3.0)
    before = speed.s_per_byte
    one = Reading(speed)
    one.share(other)
    assert one.left_s(1.0) == pytest.approx(2.0)
    one.sent(KIB, 1.0)
    assert one.left_s(1.0) == pytest.approx(2.0 + FIRST_S)
    assert other.heard == pytest.approx(3.0 + FIRST_S)
    one.read(KIB, 3.5)
    assert speed.s_per_byte == before
    assert one.left_s(3.5) == 0.0
    assert other.heard == 3.5


def test_one_whose_client_left_teaches_nothing() -> None:
    speed = ReadingSpeed()
    one = Reading(speed)
    before = speed.s_per_byte
    one.sent(KIB, 0.0)
    one.left(KIB, 50.0)
    assert speed.s_per_byte == before
    assert one.left_s(50.0) == 0.0


def test_waiting_pays_where_all_that_have_room_read_for_long() -> None:
    long, full = standing(40 * KIB, 15), standing(0, 16)
    assert better_soon([long, full, full, full], 2.6, 0.0)
    assert not better_soon([long, full], 20.0, 0.0)  # no slot frees in time
    assert not better_soon([long, full, standing(0, 15)], 2.6, 0.0)  # one has nothing to read
    assert not better_soon([standing(KIB, 15), full, full, full], 2.6, 0.0)
    assert not better_soon([long, standing(40 * KIB, 16)], 2.6, 0.0)  # those that are full read as long
    assert not better_soon([full], 2.6, 0.0)


SPARED = Spared(calm_s=0.1, short_s=0.2)


def test_a_worse_lane_leaves_a_replica_that_does_not_read_to_the_best() -> None:
    reads, still, full = standing(100 * KIB, 5), standing(0, 5), standing(0, 16)
    assert may_read_s([still, still], SPARED, 0.0) == inf
    assert may_read_s([reads, still, reads, still], SPARED, 0.0) == inf
    assert may_read_s([reads, still], SPARED, 0.0) == 0.0, "the next of the best lane would find none"
    assert may_read_s([reads, reads], SPARED, 0.0) == 0.0
    assert may_read_s([reads, still], Spared(calm_s=10.0, short_s=0.2), 0.0) == inf
    assert may_read_s([reads, still], Spared(), 0.0) == inf
    assert may_read_s([full, still], SPARED, 0.0) == inf, "the only one with room"
    assert may_read_s([full, reads], SPARED, 0.0) == 0.0
    assert may_read_s([full, full], SPARED, 0.0) == inf, "where there is no room nothing is decided here"


def test_a_replica_that_stands_idle_is_given_what_is_read_soon_while_the_others_read() -> None:
    assert may_read_s([standing(100 * KIB, 5), standing(0, 0)], SPARED, 0.0) == 0.2
    assert may_read_s([standing(0, 0), standing(0, 5)], SPARED, 0.0) == inf
    theirs = standing(100 * KIB, 0)  # another worker's is read there
    assert may_read_s([standing(100 * KIB, 5), theirs], SPARED, 0.0) == 0.0


def test_those_that_do_not_read_come_first() -> None:
    reads, still = standing(100 * KIB, 1), standing(0, 5)
    assert calm([reads, still], 0.1, 0.0) == [still]
    assert calm([reads], 0.1, 0.0) == [reads]
