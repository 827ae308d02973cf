"""The metrics of a gateway of several workers; `process_*` is the coordinator alone."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from secondsource.policy.views import WorkerView


def worker_metrics(workers: Sequence[WorkerView]) -> Iterator[Metric]:
    """Yield how the workers are; without a sample where there is one process."""
    labels = ("worker",)
    serving = GaugeMetricFamily("secondsource_worker_serving", "1 while the worker accepts clients", labels=labels)
    restarts = CounterMetricFamily("secondsource_worker_restarts", "Processes that were replaced", labels=labels)
    cpu = GaugeMetricFamily("secondsource_worker_cpu_seconds", "CPU time of the worker's process", labels=labels)
    memory = GaugeMetricFamily("secondsource_worker_resident_bytes", "Memory of the worker's process", labels=labels)
    refusing = GaugeMetricFamily(
        "secondsource_worker_journal_refusing", "1 while the worker's journal cannot be written", labels=labels
    )
    for view in workers:
        name = (str(view.worker),)
        serving.add_metric(name, int(view.serving))
        restarts.add_metric(name, view.restarts)
        cpu.add_metric(name, view.cpu_s)
        memory.add_metric(name, view.resident_bytes)
        refusing.add_metric(name, int(view.journal_refusing))
    yield from (serving, restarts, cpu, memory, refusing)
