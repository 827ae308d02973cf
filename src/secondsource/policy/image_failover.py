"""What to do when an attempt at images has failed: elsewhere once. A job is dear, and its client waits for long."""

from secondsource.core.records import Outcome
from secondsource.policy.failover import Failover, Verdict
from secondsource.policy.image_jobs import MADE_NOTHING, MOST_ATTEMPTS
from secondsource.policy.replica import Replica
from secondsource.policy.retry_budget import RetryBudget
from secondsource.policy.routing import Router


class ImageFailover(Failover):
    """A failover that allows one more attempt after one that may have made something."""

    __slots__ = ("_lost",)

    def __init__(self, router: Router, budget: RetryBudget, model: str) -> None:
        super().__init__(router, budget, model)
        self._lost = 0

    def after(self, replica: Replica, outcome: Outcome, now: float, *, progressed: bool = False) -> Verdict:
        """Return what to do now; a partial image is no part of the answer, so that `progressed` says nothing."""
        self._lost += outcome not in MADE_NOTHING
        verdict = super().after(replica, outcome, now)
        return Verdict.GIVE_UP if verdict is Verdict.AGAIN and self._lost >= MOST_ATTEMPTS else verdict
