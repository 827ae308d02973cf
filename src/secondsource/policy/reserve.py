"""How many slots worse lanes leave free because a better lane's first tokens came late while they were taken.

Most replicas read a prompt as fast beside a full batch as alone, and a better lane needs no more than a free slot. On
some each answer that is being written slows the reading of a new prompt, llama.cpp on few cores above all. There the
better lane's promise decides how many others may run: it is found by additive increase, and given back slowly.
"""

LATE = 0.5  # of what its lane promises: from there on a first token says that too much is running
SLOW = 1.5  # times what is usual for its length: what a long prompt takes by itself says nothing
STEP = 0.1  # of all slots, and one at least
SETTLES_S = 2.0  # between two steps: what was under way at the first says the same again
CALM_S, MOST_CALM_S = 30.0, 300.0  # without a late one before a step is given back; longer after each relapse
LONGER = 2.0
FASTER_LEARNING, SLOWER_LEARNING = 0.1, 0.001  # of what is usual: overload that lasts must not become usual


class Reserve:
    """The slots that are kept for one lane; times are seconds on the caller's clock."""

    __slots__ = ("_calm_s", "_changed_at", "_given_back", "_kept", "_step", "_usual")

    def __init__(self) -> None:
        self._kept = 0
        self._step = 1
        self._usual = 0.0  # took over what it takes without load
        self._changed_at = 0.0
        self._given_back = False  # the last change
        self._calm_s = CALM_S

    def first_token(self, took_s: float, unloaded_s: float, promised_s: float, slots: int, now: float) -> None:
        """Note how long a first token took from arrival, how long one of its length takes alone, and the promise."""
        ratio = took_s / max(unloaded_s, 1e-3)
        if not self._usual:
            self._usual = ratio
        late = took_s > LATE * promised_s and ratio > SLOW * self._usual
        self._usual += (FASTER_LEARNING if ratio < self._usual else SLOWER_LEARNING) * (ratio - self._usual)
        if late and now - self._changed_at >= SETTLES_S:
            if self._given_back:
                self._calm_s = min(self._calm_s * LONGER, MOST_CALM_S)
            self._step = max(int(STEP * slots), 1)
            self._kept, self._changed_at, self._given_back = min(self._kept + self._step, slots - 1), now, False

    def slots(self, now: float) -> int:
        """Return how many slots are to be left free now."""
        if self._kept and now - self._changed_at >= self._calm_s:
            self._kept, self._changed_at, self._given_back = max(self._kept - self._step, 0), now, True
            if not self._kept:
                self._calm_s = CALM_S
        return self._kept
