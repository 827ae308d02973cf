"""Continuous batching, decided purely: which prompt is read next, and when all running answers get a token.

Requests wait in order of arrival until a slot is free. A prompt is read in chunks, and between two chunks every
running answer gets its token, so that a long prompt delays the others by one chunk at the most. The caller carries
each piece of work out before it asks for the next; tokens, clocks and threads are its own affair.
"""

from collections import deque

import msgspec


class Prefill(msgspec.Struct, frozen=True):
    """Read tokens `start` to `end` of a request's prompt into its slot; `last` is what the first token follows."""

    request: int
    slot: int
    start: int
    end: int
    last: bool


class Decode(msgspec.Struct, frozen=True):
    """Make one token for each of these requests, given as slot and request, in order of slots."""

    running: tuple[tuple[int, int], ...]


Work = Prefill | Decode


class Load(msgspec.Struct, frozen=True):
    """How busy the engine is: requests that wait, and that hold a slot."""

    waiting: int
    running: int


class _Holder(msgspec.Struct):
    request: int
    prompt_tokens: int
    read: int = 0  # tokens of the prompt that have been handed out for reading


class Scheduler:
    """Owns who waits and who holds which slot. Requests are named by the caller's numbers."""

    def __init__(self, *, slots: int, chunk_tokens: int) -> None:
        self._free = list(range(slots))
        self._chunk_tokens = chunk_tokens
        self._waiting: deque[_Holder] = deque()
        self._reading: dict[int, _Holder] = {}  # by slot, in order of arrival
        self._running: dict[int, _Holder] = {}  # by slot
        self._has_read = False  # the last work was a prefill: running answers come first now

    @property
    def load(self) -> Load:
        """How busy the engine is now."""
        return Load(waiting=len(self._waiting), running=len(self._reading) + len(self._running))

    def submit(self, request: int, prompt_tokens: int) -> None:
        """Queue a request whose prompt has at least one token; how many may wait is the caller's to bound."""
        self._waiting.append(_Holder(request, prompt_tokens))

    def remove(self, request: int) -> int | None:
        """Forget a request that is finished or whose client left; returns the slot that is free at once, if it had one.

        A request that is not known is none: it may have finished as its client left.
        """
        for held in (self._reading, self._running):
            for slot, holder in held.items():
                if holder.request == request:
                    del held[slot]
                    self._free.append(slot)
                    return slot
        self._waiting = deque(holder for holder in self._waiting if holder.request != request)
        return None

    def next(self) -> Work | None:
        """Return what to do now, or None when there is nothing to do."""
        while self._waiting and self._free:
            # The lowest slot: few requests then lie close together, where a small batch reaches them all.
            slot = min(self._free)
            self._free.remove(slot)
            self._reading[slot] = self._waiting.popleft()
        if self._reading and not (self._has_read and self._running):
            self._has_read = True
            return self._read_on()
        self._has_read = False
        if not self._running:
            return None
        return Decode(tuple((slot, self._running[slot].request) for slot in sorted(self._running)))

    def _read_on(self) -> Prefill:
        """Read a chunk of the earliest prompt that is not read yet."""
        slot, holder = next(iter(self._reading.items()))
        start = holder.read
        holder.read = min(start + self._chunk_tokens, holder.prompt_tokens)
        last = holder.read == holder.prompt_tokens
        if last:
            self._running[slot] = self._reading.pop(slot)
        return Prefill(holder.request, slot, start, holder.read, last)
