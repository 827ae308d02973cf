"""Names in a SPEC must stand for something in it, and once only."""

from collections.abc import Iterable

from secondsource.core.strict_toml import Document, suggestion
from secondsource.planner.spec import Spec


def check_names(document: Document, spec: Spec) -> None:
    """Report names given twice, names that stand for nothing, and tables a plan cannot do without."""
    for key, present in (("lanes", spec.lanes), ("demand", spec.demand)):
        if not present:
            document.report((key,), f"a plan needs at least one [[{key}]]; see docs/planner.md")
    classes = [item.size.name for item in spec.classes]
    models = [model.name for model in spec.models]
    lanes = [lane.name for lane in spec.lanes]
    workloads = [item.name for item in spec.workloads]
    _once(document, "classes", classes)
    _once(document, "lanes", lanes)
    _once(document, "workloads", workloads)
    for number, item in enumerate(spec.classes):
        _known(document, ("classes", number, "model"), item.model, models, "model")
    for number, workload in enumerate(spec.workloads):
        _known(document, ("workloads", number, "model"), workload.model, models, "model")
    for number, demand in enumerate(spec.demand):
        _known(document, ("demand", number, "lane"), demand.lane, lanes, "lane")
        if demand.size_class is not None:
            _known(document, ("demand", number, "class"), demand.size_class, classes, "class")
        if demand.workload is not None:
            _known(document, ("demand", number, "workload"), demand.workload, workloads, "workload")
    pairs = [f"{item.lane}/{item.size_class or item.workload}" for item in spec.demand]
    for number, pair in enumerate(pairs):
        if pair in pairs[:number]:
            document.report(("demand", number), f"the demand of {pair} is given twice; add them up")
    learnt = [f"{name}-{number}" for name in workloads for number in range(1, 1001)] if workloads else []
    for number, rate in enumerate(spec.rates):
        if rate.size_class not in learnt:
            _known(document, ("rates", number, "class"), rate.size_class, classes, "class")
        if rate.lane is not None:
            _known(document, ("rates", number, "lane"), rate.lane, lanes, "lane")


def _once(document: Document, key: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            document.report((key, number, "name"), f'"{name}" is given twice; choose another name')
        seen.add(name)


def _known(document: Document, path: tuple[str | int, ...], name: str, known: list[str], what: str) -> None:
    if name and name not in known:
        document.report(path, f'no {what} "{name}"; {suggestion(name, known)}')
