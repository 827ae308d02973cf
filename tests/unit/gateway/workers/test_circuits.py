"""What the coordinator says to which worker of which replica: what is new, once."""

from random import Random

from secondsource.core.records import Outcome
from secondsource.gateway.workers.circuits import SharedCircuits, name_of, take
from secondsource.gateway.workers.messages import Learnt, Stand, Witness
from secondsource.policy.circuit import CircuitState
from secondsource.policy.concurrency import LoadReport
from secondsource.policy.shared_circuit import Facts, Seen, SharedCircuit, What
from tests.fleets import fleet, pool, replica_of, router


def test_what_is_well_and_known_is_not_said() -> None:
    circuits = SharedCircuits(router(pool("a"), pool("b")))
    circuits.joined(1)
    assert circuits.news(1.0) == []


def test_what_the_probes_learnt_is_said_once_to_each_and_to_whoever_joins() -> None:
    over = router(pool("a"))
    circuits, replica = SharedCircuits(over), replica_of(over, "a")
    circuits.joined(1)
    replica.engine, replica.context_tokens = "vllm", 4096
    stand = Stand(replica=name_of(replica), learnt=Learnt("vllm", 4096))
    assert circuits.news(1.0) == [(1, stand)]
    assert circuits.news(1.1) == []
    circuits.joined(2)
    assert circuits.news(1.2) == [(2, stand)]
    circuits.left(2)
    circuits.joined(2)  # another process on the same post
    assert circuits.news(1.3) == [(2, stand)]


def test_each_report_of_load_is_said_also_when_it_says_the_same() -> None:
    over = router(pool("a"))
    circuits, replica = SharedCircuits(over), replica_of(over, "a")
    circuits.joined(1)
    circuits.news(1.0)
    for _ in range(2):
        replica.load_reported(LoadReport(waiting=3), 1.0)
        assert [stand.report for _, stand in circuits.news(1.0)] == [LoadReport(waiting=3)]
        assert circuits.news(1.0) == []


def test_a_failure_is_said_to_the_others_and_a_removed_replica_is_nobodys() -> None:
    over = router(pool("a"), pool("b"))
    circuits, name = SharedCircuits(over), name_of(replica_of(over, "a"))
    circuits.joined(1)
    circuits.joined(2)
    seen = Seen(What.FAILED, Facts(CircuitState.OPEN, 2.0), outcome=Outcome.CONNECT_FAILED)
    said = circuits.heard(1, Witness(replica=name, seen=seen), 1.0)
    assert {worker for worker, _ in said} == {1, 2}  # the first as well: it waits as long as the coordinator does
    assert all(stand.facts is not None and stand.facts.state is CircuitState.OPEN for _, stand in said)
    over.reload(fleet(pool("b"), pool("c")))
    circuits.reload()
    assert circuits.heard(2, Witness(replica=name, seen=seen), 1.0) == []
    assert circuits.news(1.0) == []


def test_a_worker_takes_what_is_said_of_its_replicas_and_nothing_else() -> None:
    over = router(pool("a"))
    replica = replica_of(over, "a")
    replica.circuit = SharedCircuit(Random(1), lambda seen: None)
    name = name_of(replica)
    take(over, Stand(replica=name, facts=Facts(CircuitState.OPEN, 5.0), learnt=Learnt("sglang", 99)), 1.0)
    assert (replica.circuit.state, replica.circuit.retry_at) == (CircuitState.OPEN, 5.0)
    assert (replica.engine, replica.context_tokens) == ("sglang", 99)
    take(over, Stand(replica=name._replace(url="http://gone"), facts=Facts()), 1.0)
    assert replica.circuit.state is CircuitState.OPEN
