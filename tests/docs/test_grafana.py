"""The Grafana dashboard names metrics and labels that exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from secondsource.gateway.admin.metrics import MetricsCollector
from secondsource.gateway.books.books import BooksStatus
from secondsource.gateway.meter import Meter

DASHBOARD = json.loads((Path(__file__).resolve().parents[2] / "docs" / "grafana" / "secondsource.json").read_text())
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
METRIC = re.compile(r"\b(?:secondsource|gen_ai|process)_\w+")
SELECTED = re.compile(r"\{([^}]*)\}")
GROUPED = re.compile(r"by \(([^)]*)\)")
OF_PROMETHEUS = {"le"}


def families() -> Iterator[Metric]:
    yield from MetricsCollector(Meter((), ()), list, BooksStatus).collect()
    yield from ProcessCollector(registry=CollectorRegistry()).collect()


def known() -> dict[str, set[str]]:
    """Every series' name with its labels."""
    return {
        family.name + suffix: {*getattr(family, "_labelnames", ())} | OF_PROMETHEUS
        for family in families()
        for suffix in SUFFIXES[family.type]
    }


def queries() -> list[tuple[str, str]]:
    panels = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    variables = [
        (variable["name"], variable["definition"])
        for variable in DASHBOARD["templating"]["list"]
        if variable["type"] == "query"
    ]
    return panels + variables


@pytest.mark.parametrize(("title", "query"), queries())
def test_every_metric_and_label_of_the_dashboard_exists(title: str, query: str) -> None:
    series = known()
    bare = re.sub(r'"[^"]*"', '""', query)
    labels = {name.strip() for group in GROUPED.findall(bare) for name in group.split(",")}
    labels |= {name for inside in SELECTED.findall(bare) for name in re.findall(r"(\w+)\s*[=!]", inside)}
    if variable := re.fullmatch(r"label_values\(\w+, (\w+)\)", query):
        labels = {variable[1]}
    used = set(METRIC.findall(bare)) - labels
    assert used, f"{title}: no metric in {query}"
    assert used <= series.keys(), f"{title}: no such metric: {used - series.keys()}"
    for name in used:
        assert labels <= series[name], f"{title}: {name} has no label {labels - series[name]}"


def test_no_two_panels_have_one_number_and_none_is_empty() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["type"] == "row" or panel["targets"] for panel in DASHBOARD["panels"])
