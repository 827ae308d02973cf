"""The coordinator's circuits, and what each worker has been told of each replica."""

from secondsource.gateway.workers.messages import Learnt, ReplicaName, Stand, Witness
from secondsource.policy.concurrency import LoadReport
from secondsource.policy.replica import Replica
from secondsource.policy.routing import Router
from secondsource.policy.shared_circuit import CircuitDesk, SharedCircuit


def name_of(replica: Replica) -> ReplicaName:
    """Return what messages call a replica."""
    return ReplicaName(replica.pool.name, replica.url)


class SharedCircuits:
    """A desk for each replica of the coordinator's router."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._desks: dict[ReplicaName, tuple[Replica, CircuitDesk]] = {}
        self._learnt: dict[tuple[int, ReplicaName], Learnt] = {}
        self._reports: dict[tuple[int, ReplicaName], LoadReport] = {}
        self._workers: set[int] = set()
        self.reload()

    def reload(self) -> None:
        """Take the router's replicas as they are now; of those that stay everything is kept."""
        before, self._desks = self._desks, {}
        for replica in self._router.replicas:
            name = name_of(replica)
            known, desk = before.get(name, (None, None))
            if desk is None or known is not replica:
                desk = CircuitDesk(replica.circuit)
                for worker in self._workers:
                    desk.joined(worker)
                    self._learnt.pop((worker, name), None)
            self._desks[name] = replica, desk

    def joined(self, worker: int) -> None:
        """Note a new worker."""
        self._workers.add(worker)
        for name, (_, desk) in self._desks.items():
            desk.joined(worker)
            self._learnt.pop((worker, name), None)

    def left(self, worker: int) -> None:
        """Note that a worker is gone."""
        self._workers.discard(worker)
        for _, desk in self._desks.values():
            desk.left(worker)

    def heard(self, worker: int, witness: Witness, now: float) -> list[tuple[int, Stand]]:
        """Apply what a worker saw; returns what is to be said, and to whom."""
        found = self._desks.get(witness.replica)
        if found is None or worker not in self._workers:
            return []
        _, desk = found
        desk.heard(worker, witness.seen, now)
        return self._said(witness.replica, desk, now)

    def news(self, now: float) -> list[tuple[int, Stand]]:
        """Return all that is to be said now, and to whom."""
        said = []
        for name, (replica, desk) in self._desks.items():
            said += self._said(name, desk, now)
            learnt = Learnt(replica.engine, replica.context_tokens)
            for worker in self._workers:
                if self._learnt.get((worker, name), Learnt()) != learnt:
                    self._learnt[worker, name] = learnt
                    said.append((worker, Stand(replica=name, learnt=learnt)))
                # Each report counts, also one that says the same again.
                if self._reports.get((worker, name), replica.report) is not replica.report:
                    said.append((worker, Stand(replica=name, report=replica.report)))
                self._reports[worker, name] = replica.report
        return said

    def _said(self, name: ReplicaName, desk: CircuitDesk, now: float) -> list[tuple[int, Stand]]:
        return [(worker, Stand(replica=name, facts=facts)) for worker, facts in desk.news(now)]


def take(router: Router, stand: Stand, now: float) -> None:
    """Have a worker's replica stand as the coordinator says; one that is not known here has just been removed."""
    replica = next((one for one in router.replicas if name_of(one) == stand.replica), None)
    if replica is None:
        return
    if stand.facts is not None and isinstance(replica.circuit, SharedCircuit):
        replica.circuit.take(stand.facts)
    if stand.learnt is not None:
        replica.engine = stand.learnt.engine
        replica.context_tokens = stand.learnt.context_tokens
    if stand.report is not None:
        replica.load_reported(stand.report, now)
