"""Time one decision of each policy of the surge, in microseconds of this machine.

.venv/bin/python benchmarks/policy_cost.py
"""

from collections.abc import Callable
from time import perf_counter

from secondsource.core.fleet import Allowance, Key, Lane, Supplier
from secondsource.policy.admission import Admission, Refused, Request, Room
from secondsource.policy.concurrency import ConcurrencyLimit
from secondsource.policy.limits import Limits, Reservation, Use
from secondsource.policy.prefix_affinity import PrefixAffinity
from secondsource.policy.supplier_share import SupplierShares

COUNT = 50_000
ROUNDS = 5
LANES = (Lane(name="paid", ttft_s=2.0), Lane(name="free", priority=10, ttft_s=10.0))


def admit_at_once() -> Callable[[int], object]:
    """A request that finds room, and its end."""
    over = Admission(LANES, {}, 64, 0.0)

    def decide(step: int) -> None:
        ticket = over.arrive(Request("acme", "paid", 1.0, 0.1), Room(32, 64), step * 1e-3)
        assert not isinstance(ticket, Refused)
        over.forget(ticket)

    return decide


def wait_and_take() -> Callable[[int], object]:
    """A request that waits among a hundred tenants', and the next one taken."""
    over = Admission(LANES, {}, 64, 0.0)
    for number in range(300):
        over.arrive(Request(f"tenant{number % 100}", "free", 0.2, 0.1), Room(0, 64), 0.0)

    def decide(step: int) -> None:
        over.arrive(Request(f"tenant{step % 100}", "free", 0.2, 0.1), Room(0, 64), step * 1e-3)
        over.take(Room(9, 64), step * 1e-3)

    return decide


def send_away() -> Callable[[int], object]:
    """A request that is refused, and its place."""
    over = Admission(LANES, {}, 64, 0.0)
    for _ in range(700):
        over.arrive(Request("acme", "free", 1.0, 0.1), Room(0, 64), 0.0)

    def decide(step: int) -> None:
        assert isinstance(over.arrive(Request("acme", "free", 1.0, 0.1, step + 1), Room(0, 64), 0.0), Refused)

    return decide


def reserve_and_settle() -> Callable[[int], object]:
    """A key with three limits."""
    allowance = Allowance(requests_per_minute=10**9, tokens_per_minute=10**12, nano_usd_per_day=10**18)
    over = Limits([Key(sha256="a", tenant="acme", lane="paid", allowance=allowance)], [])

    def decide(step: int) -> None:
        reserved = over.reserve("a", "acme", Use(1000, 1000), 1e9 + step * 1e-3)
        assert isinstance(reserved, Reservation)
        over.settle(reserved, Use(600, 600), 1e9 + step * 1e-3)

    return decide


def share() -> Callable[[int], object]:
    """Three suppliers, one of them capped."""
    over = SupplierShares([Supplier(name="azure", max_share=0.6), Supplier(name="oci"), Supplier(name="gcp")])
    names = ["azure", "oci", "gcp"]

    def decide(step: int) -> None:
        (chosen, *_) = over.may_have(names, 1000, 1e6 + step * 1e-3).suppliers
        over.settle(over.book(chosen, 1000, 1e6 + step * 1e-3), 900, 1e6 + step * 1e-3)

    return decide


def affinity() -> Callable[[int], object]:
    """Eight replicas, prompts of twenty blocks."""
    over = PrefixAffinity([f"r{number}" for number in range(8)])
    prompts = [[1, *(number * 1000 + block for block in range(20))] for number in range(500)]
    room = [True] * 8
    return lambda step: over.choose(prompts[step % 500], 1.0, room, step * 1e-3)


def limit() -> Callable[[int], object]:
    """An answer noted."""
    over = ConcurrencyLimit(64)
    return lambda step: over.answered(1.0, 1.0, 60, step * 1e-3)


def main() -> None:
    """Print the best of a few rounds for each."""
    for make in (admit_at_once, wait_and_take, send_away, reserve_and_settle, share, affinity, limit):
        best = float("inf")
        for _ in range(ROUNDS):
            decide = make()
            began = perf_counter()
            for step in range(COUNT):
                decide(step)
            best = min(best, (perf_counter() - began) / COUNT)
        print(f"{make.__name__:20} {best * 1e6:6.2f} us  {make.__doc__}")  # noqa: T201


if __name__ == "__main__":
    main()
