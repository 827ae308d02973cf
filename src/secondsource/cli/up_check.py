"""`secondsource up --check`: what each replica of a fleet file can do, and whether that is enough."""

import json
from collections.abc import Sequence
from typing import Protocol

import msgspec
from rich.console import Console
from rich.table import Table

from secondsource.core.fleet import Fleet


class Report(Protocol):
    """What one replica answered; the gateway's prober makes these."""

    @property
    def pool(self) -> str:
        """The pool's name."""

    @property
    def replica(self) -> str:
        """The replica's base URL."""

    @property
    def reachable(self) -> bool:
        """Whether it answered at all."""

    @property
    def engine(self) -> str | None:
        """Which server it runs, where that can be told."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models it says it serves."""

    @property
    def serves_model(self) -> bool:
        """Whether the pool's model is among them."""

    @property
    def continuation(self) -> str:
        """How a cut answer can be continued there."""

    @property
    def detail(self) -> str:
        """What a person should know, an error above all."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict over all replicas, each problem a sentence."""

    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every model can be served and every replica answers."""
        return not self.problems


def judge(fleet: Fleet, reports: Sequence[Report]) -> Findings:
    """Return what stands in the way of serving `fleet` as its file says."""
    problems = [f"{report.replica} (pool {report.pool}) is not reachable" for report in reports if not report.reachable]
    for model in fleet.models:
        pools = {pool.name for pool in fleet.pools if pool.model == model}
        if not any(report.serves_model for report in reports if report.pool in pools):
            problems.append(f'no replica serves model "{model}"')
    return Findings(problems=tuple(problems))


def state_of(report: Report) -> str:
    """Return one replica's state in a word or a sentence."""
    if not report.reachable:
        return f"not reachable: {report.detail}" if report.detail else "not reachable"
    if not report.serves_model:
        return f"does not serve the model; it has: {', '.join(report.models) or 'none'}"
    return "serves"


def as_json(origin: str, findings: Findings, reports: Sequence[Report]) -> str:
    """Return the check as JSON: fleet, ok, problems, and one object a replica."""
    replicas = [
        {
            "pool": report.pool,
            "replica": report.replica,
            "reachable": report.reachable,
            "serves_model": report.serves_model,
            "engine": report.engine,
            "models": list(report.models),
            "continuation": report.continuation,
            "detail": report.detail,
        }
        for report in reports
    ]
    document = {"fleet": origin, "ok": findings.ok, "problems": list(findings.problems), "replicas": replicas}
    return json.dumps(document, indent=2)


def show(findings: Findings, reports: Sequence[Report], console: Console) -> None:
    """Print the replicas as a table, then the verdict."""
    table = Table("pool", "replica", "state", "engine", "continues a cut answer", "note")
    for report in reports:
        note = report.detail if report.reachable else ""
        cells = (report.pool, report.replica, state_of(report), report.engine or "unknown", report.continuation, note)
        table.add_row(*cells)
    console.print(table)
    for problem in findings.problems:
        console.print(problem, markup=False, highlight=False)
    if findings.ok:
        console.print("Every model can be served, and every replica answers.", highlight=False)
