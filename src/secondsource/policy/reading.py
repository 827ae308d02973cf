"""How long a replica will be reading the prompts it has, and whether a better one will have a slot before that.

A replica reads prompts one after another, or shares its speed among them: either way a new prompt's first token comes
after those that were sent before it. How fast a pool reads is learned from the time between one first token and the
next, which is short where prompts are read together.
"""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple, Protocol, TypeVar

FIRST_S_PER_BYTE = 25e-6  # four bytes a token, 10,000 tokens a second
KEPT = 0.98  # of what was learned, with each prompt
PRIOR_BYTES = 1_000.0
BUSIER = 1.25  # times the least busy, and two attempts more: there one looks for who has least to read
OVERDUE = 0.25  # of what is unread, and of the time since, at the least: what takes longer is not read yet


class ReadingSpeed:
    """Seconds a byte of a request, as the replicas of one pool read them."""

    __slots__ = ("_bytes", "_seconds")

    def __init__(self) -> None:
        self._bytes = PRIOR_BYTES
        self._seconds = PRIOR_BYTES * FIRST_S_PER_BYTE

    @property
    def s_per_byte(self) -> float:
        """Seconds a byte."""
        return self._seconds / self._bytes

    def learn(self, size: int, took_s: float) -> None:
        """Note how long a request took to its first token after that of the one before it; `size` in bytes."""
        self._bytes = self._bytes * KEPT + size
        self._seconds = self._seconds * KEPT + took_s


class Told(Protocol):
    """Until when a replica will be reading, of this process and of others that send to it too."""

    def write(self, until: float) -> None:
        """Say until when it will be reading what this process has sent."""

    def others(self) -> float:
        """Return until when it will be reading what the others have sent; a time that is over for nothing."""


class Reading:
    """The requests that one replica was sent and has not begun to answer; sizes in bytes, times on one clock."""

    __slots__ = ("_alone", "_since", "_speed", "_told", "_until", "unread")

    def __init__(self, speed: ReadingSpeed) -> None:
        self._speed = speed
        self._told: Told | None = None
        self._alone = True  # since the last first token, or the first request after a pause: nobody else sent anything
        self.unread = 0
        self._until = 0.0  # when all will have been read, as far as is known
        self._since = 0.0  # the last first token, or the first request after a pause

    def share(self, told: Told) -> None:
        """Tell others what is sent from here, and count what they send."""
        self._told = told

    def sent(self, size: int, now: float) -> None:
        """Note a request; 0 is one whose first token nobody will see."""
        if not size:
            return
        others = 0.0 if self._told is None else self._told.others()
        if not self.unread:
            self._since = self._until = now
            self._alone = others <= now
        self.unread += size
        self._until = max(self._until, others, now) + size * self._speed.s_per_byte
        if self._told is not None:
            self._told.write(self._until)

    def read(self, size: int, now: float) -> None:
        """Note a first token."""
        if not size:
            return
        others = 0.0 if self._told is None else self._told.others()
        if self._alone and others <= now:
            self._speed.learn(size, now - self._since)
        self._alone = others <= now
        self.left(size, now)

    def left(self, size: int, now: float) -> None:
        """Note that a request is not waited for any more."""
        if size:
            self.unread -= size
            self._since = now
            self._until = now + self.unread * self._speed.s_per_byte
            if self._told is not None:
                self._told.write(self._until)

    def left_s(self, now: float) -> float:
        """Return how long the replica will be reading."""
        others_s = 0.0 if self._told is None else max(self._told.others() - now, 0.0)
        if not self.unread:
            return others_s
        overdue_s = OVERDUE * max(self.unread * self._speed.s_per_byte, now - self._since)
        return max(self._until - now, others_s, overdue_s)


class Standing(Protocol):
    """What is asked of a replica here."""

    in_flight: int
    reading: Reading

    def has_room(self, *, urgent: bool = False) -> bool:
        """Return whether it bears one more attempt; of the best lane, if urgent."""

    def stands_idle(self) -> bool:
        """Return whether it has no attempt, from any worker."""


One = TypeVar("One", bound=Standing)


def better_soon(replicas: Iterable[Standing], work_s: float, now: float) -> bool:
    """Return whether a first token comes sooner by waiting for a slot than by taking the best of those free.

    `work_s`: how long a request occupies a slot, on average. The slots of replicas that have less to read than the
    best with room come free one after another, at their number over `work_s`.
    """
    best_s = inf
    full: list[tuple[float, int]] = []
    for replica in replicas:
        left_s = replica.reading.left_s(now)
        if not replica.has_room(urgent=True):
            full.append((left_s, replica.in_flight))
        elif left_s <= 0.0:
            return False
        else:
            best_s = min(best_s, left_s)
    if best_s == inf:
        return False
    slots = sum(in_flight for left_s, in_flight in full if left_s < best_s / 2)
    return slots > 0 and best_s > work_s / slots


class Spared(NamedTuple):
    """What worse lanes spare the best one, in seconds of reading."""

    calm_s: float = inf  # a replica that will be reading for longer is not calm: the best lane is left one that is
    short_s: float = inf  # a prompt that is read no longer may still be sent to one that has nothing else to do


def may_read_s(replicas: Iterable[Standing], spared: Spared, now: float) -> float:
    """Return how long a prompt may be read that is sent now: any time where it leaves a calm replica with room.

    It is sent to a calm one itself, so there have to be two, or it is the only one with room. A replica that stands
    idle makes nothing, so a short prompt is sent there even if all others are reading.
    """
    with_room = calm = 0
    idle = False
    for replica in replicas:
        if replica.has_room():
            with_room += 1
            if replica.reading.left_s(now) <= spared.calm_s:
                calm += 1
                if calm == 2:
                    return inf
                idle = idle or replica.stands_idle()
    if calm == with_room:
        return inf
    return spared.short_s if idle else 0.0


def calm(free: list[One], calm_s: float, now: float) -> list[One]:
    """Return those that will not be reading for longer than `calm_s`; all, where there is none."""
    return [replica for replica in free if replica.reading.left_s(now) <= calm_s] or free


def with_least_to_read(free: list[One], now: float) -> list[One]:
    """Return the replicas that have least to read before a new prompt, of those that are not much the busier."""
    most = BUSIER * min(replica.in_flight for replica in free) + 2.0
    near = [(replica.reading.left_s(now), replica) for replica in free if replica.in_flight <= most]
    least = min(left_s for left_s, _ in near)
    return [replica for left_s, replica in near if left_s == least]
