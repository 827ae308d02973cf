"""The fair queue: everything that waits comes out once, in its tenant's order, and tenants share by weight."""

from collections import Counter
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from secondsource.policy.fair_queue import MOST_PASSED, FairQueue, Shares, State, Ticket

TENANTS = ("a", "b", "c")
works = st.floats(0.01, 10.0)
steps = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "pop", "pop short", "forget"]), st.sampled_from(TENANTS), works, st.booleans()
    ),
    max_size=200,
)


def _heads(waiting: dict[Ticket, bool]) -> list[Ticket]:
    """Return each tenant's next: the first of those that are due, or of all."""
    heads: dict[str, Ticket] = {}
    for ticket in sorted(waiting, key=lambda one: not waiting[one]):
        heads.setdefault(ticket.tenant, ticket)
    return list(heads.values())


@given(steps)
def test_what_goes_in_comes_out_once_and_in_order(script: list[tuple[str, str, float, bool]]) -> None:
    shares = Shares({"a": 2.0})
    queue = FairQueue(shares)
    waiting: dict[Ticket, bool] = {}  # in order of arrival
    for what, tenant, work, due in script:
        if what == "push":
            ticket = Ticket(tenant, "free", work, 0.0, first_token_s=work)
            queue.push(ticket, due=due)
            waiting[ticket] = due
        elif what in ("pop", "pop short"):
            longest_s = inf if what == "pop" else work
            heads = _heads(waiting)
            out = queue.pop(longest_s)
            assert (out is None) == all(one.first_token_s >= longest_s for one in heads)
            if out is not None:
                assert out in heads, "a tenant's requests changed their order"
                assert out.first_token_s < longest_s
                del waiting[out]
        elif waiting:
            gone = list(waiting)[int(work * 7) % len(waiting)]
            queue.forget(gone)
            assert gone.state is State.OVER
            del waiting[gone]
        assert queue.waiting == len(waiting)
        assert abs(queue.work - sum(one.work for one in waiting)) < 1e-6
        assert shares.total == sum({"a": 2.0}.get(name, 1.0) for name in {one.tenant for one in waiting})
    assert sum(1 for _ in iter(queue.pop, None)) == len(waiting)


@settings(max_examples=30)
@given(st.lists(works, min_size=40, max_size=120), st.sampled_from([0.5, 1.0, 3.0]))
def test_tenants_that_always_want_more_share_by_weight(sizes: list[float], weight: float) -> None:
    queue = FairQueue(Shares({"a": weight}))
    for tenant in ("a", "b"):
        for work in sizes:
            queue.push(Ticket(tenant, "free", work, 0.0))
    served = Counter[str]()
    rest = {"a": len(sizes), "b": len(sizes)}
    while all(rest.values()):
        out = queue.pop()
        assert out is not None
        served[out.tenant] += out.work  # type: ignore[assignment]
        rest[out.tenant] -= 1
        apart = abs(served["a"] / weight - served["b"])
        assert apart <= max(sizes) / weight + max(sizes) + 1e-6, "further apart than one request each"


@given(st.integers(1, 300), works)
def test_a_flood_waits_behind_itself_alone(flood: int, work: float) -> None:
    queue = FairQueue(Shares({}))
    for _ in range(flood):
        queue.push(Ticket("flood", "free", work, 0.0))
    queue.pop()
    trickle = Ticket("trickle", "free", work, 0.0)
    queue.push(trickle)
    ahead = 0
    while queue.pop() is not trickle:
        ahead += 1
    assert ahead <= 1


@given(st.lists(st.sampled_from(["keep", "drop"]), min_size=60, max_size=150))
def test_forgotten_requests_leave_no_memory(script: list[str]) -> None:
    queue = FairQueue(Shares({}))
    queue.push(Ticket("a", "free", 1.0, 0.0))
    for each in script:
        ticket = Ticket("a", "free", 1.0, 0.0)
        queue.push(ticket)
        if each == "drop":
            queue.forget(ticket)
    held = len(queue._tenants["a"].fresh)
    assert held <= 2 * queue.waiting + 17


@given(st.integers(1, 2 * MOST_PASSED))
def test_who_is_passed_over_keeps_its_turn(tenants: int) -> None:
    queue = FairQueue(Shares({}))
    long = [Ticket(f"tenant {number}", "free", 1.0, 0.0, first_token_s=2.0) for number in range(tenants)]
    short = Ticket("last", "free", 1.0, 0.0, first_token_s=0.5)
    for ticket in (*long, short):
        queue.push(ticket)
    if tenants < MOST_PASSED:
        assert queue.pop(1.0) is short
    else:
        assert queue.pop(1.0) is None  # no more are looked at for one short request
    assert [queue.pop() for _ in long] == long
