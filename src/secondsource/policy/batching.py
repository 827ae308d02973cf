"""What a slot is worth: how much slower a replica writes each answer the more of them it writes at once.

Where a full batch takes hardly longer a step than a small one, a slot that is left free costs its whole share of what
is made. Where a step takes as much longer as there are more answers, as with llama.cpp on one core, it costs nothing.
"""

PARTS = 8  # of a replica's slots: how many answers it writes is told apart so finely
LEARNING = 0.05  # with each answer
FEWEST_TOKENS = 8  # of an answer, for its speed to say something
NARROWEST = 0.25  # of the slots: what was seen over less says nothing of a slope


class Batching:
    """Seconds a token at one pool's replicas, by how much of their slots was in use."""

    __slots__ = ("_seconds", "_seen", "_tokens", "_used")

    def __init__(self) -> None:
        self._seconds = [0.0] * PARTS  # of answers of late, and their tokens: a short one that had to stand still
        self._tokens = [0.0] * PARTS  # while a prompt was read says little
        self._used = [0.0] * PARTS
        self._seen = [0] * PARTS

    def wrote(self, tokens: int, seconds: float, used: float) -> None:
        """Note how long an answer took after its first token, and which part of the slots was `used` then."""
        if tokens < FEWEST_TOKENS:
            return
        part = min(max(int(PARTS * used - 1e-9), 0), PARTS - 1)
        self._seen[part] += 1
        self._seconds[part] += seconds - LEARNING * self._seconds[part]
        self._tokens[part] += tokens - 1 - LEARNING * self._tokens[part]
        self._used[part] += max(LEARNING, 1.0 / self._seen[part]) * (used - self._used[part])

    def most_kept(self, loss: float) -> float | None:
        """Return which part of the slots may be left free for `loss` of what is made; None while nobody knows.

        Seconds a token are taken for a + b * used, by least squares over the parts that were seen, each by how much
        is known of it. What is made is used / (a + b * used), which with 1 - kept of the slots is 1 - loss of what it
        is with all of them.
        """
        known = zip(self._used, self._seconds, self._tokens, self._seen, strict=True)
        seen = [(used, took_s / tokens, min(LEARNING * seen, 1.0)) for used, took_s, tokens, seen in known if seen]
        if len(seen) < 2 or seen[-1][0] - seen[0][0] < NARROWEST:
            return None
        weight = sum(one[2] for one in seen)
        mean_used = sum(used * much for used, _, much in seen) / weight
        mean_s = sum(value * much for _, value, much in seen) / weight
        spread = sum((used - mean_used) ** 2 * much for used, _, much in seen)
        slope = max(sum((used - mean_used) * (value - mean_s) * much for used, value, much in seen) / spread, 0.0)
        alone_s = max(mean_s - slope * mean_used, 0.0)
        return min(loss * (alone_s + slope) / max(alone_s + loss * slope, 1e-9), 1.0)
