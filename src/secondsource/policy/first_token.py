"""When the first token comes: predicted from what waits ahead and the prompt's length, and how wrong that was.

`FirstToken` is one pool's speed with prompts, by its profile until it is measured. `PredictionError` counts
predicted over actual, for the metric and so that nobody has to believe a prediction.
"""

from bisect import bisect_left

LEARNING = 0.05
LEAST_RATIO, MOST_RATIO = 0.1, 10.0
RATIO_BOUNDS = (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)  # predicted over actual
SHORTEST_S = 1e-3


class FirstToken:
    """How long a pool's replica takes from being asked to its first token."""

    __slots__ = ("_correction", "_overhead_s", "_seen", "_tokens_per_s")

    def __init__(self, tokens_per_s: float, overhead_s: float = 0.0) -> None:
        self._tokens_per_s = tokens_per_s  # prompt tokens per second, by the profile
        self._overhead_s = overhead_s
        self._correction = 1.0
        self._seen = 0

    def predicted_s(self, prompt_tokens: int, cached_tokens: int = 0, tokens_ahead: int = 0) -> float:
        """Return seconds to the first token; `tokens_ahead` are of other prompts that the replica has yet to read."""
        tokens = max(prompt_tokens - cached_tokens, 0) + tokens_ahead
        return (self._overhead_s + tokens / self._tokens_per_s) * self._correction

    def observed(self, predicted_s: float, actual_s: float) -> None:
        """Learn from a first token: all further predictions are scaled as the last ones were wrong."""
        ratio = max(actual_s, SHORTEST_S) / max(predicted_s, SHORTEST_S)
        bounded = min(max(ratio, LEAST_RATIO), MOST_RATIO)
        self._seen += 1
        self._correction *= bounded ** max(LEARNING, 1.0 / (self._seen + 1))


class PredictionError:
    """A histogram of predicted over actual time to the first token."""

    __slots__ = ("bias", "counts", "observations")

    def __init__(self) -> None:
        self.counts = [0] * (len(RATIO_BOUNDS) + 1)  # the last is of everything above
        self.observations = 0
        self.bias = 0.0  # mean of (predicted - actual) of late, in seconds

    def observed(self, predicted_s: float, actual_s: float) -> None:
        """Count one first token."""
        self.counts[bisect_left(RATIO_BOUNDS, predicted_s / max(actual_s, SHORTEST_S))] += 1
        self.observations += 1
        self.bias += LEARNING * (predicted_s - actual_s - self.bias)

    def within(self, least: float, most: float) -> float:
        """Return the fraction of predictions with a ratio in (`least`, `most`], both of `RATIO_BOUNDS`."""
        first, last = RATIO_BOUNDS.index(least), RATIO_BOUNDS.index(most)
        return sum(self.counts[first + 1 : last + 1]) / max(self.observations, 1)
