"""The dashboard and the alert rules in the package name metrics, and labels of them, that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import Metric

from tests.support.client_environments import ROOT
from unpause.services.metrics import families
from unpause.telemetry.metrics import REGISTRY

_FOLDER = files("unpause") / "operations"
_NAME = re.compile(r"\b(?:unpause|process)_[a-z_]+")
# A selector or a grouping, with the labels in it.
_LABELS = re.compile(r"(?:by|ignoring) \(([^)]*)\)|\{([^}]*)\}")
# Those that Prometheus adds.
_SCRAPED = {"le", "instance", "job"}


def exposed() -> dict[str, set[str]]:
    """Return the names of all samples, each with its labels."""
    found: dict[str, set[str]] = {}
    metrics: Iterable[Metric] = (*REGISTRY.collect(), *families(None))
    for metric in metrics:
        ends = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(metric.type, [""])
        labels = set(getattr(metric, "_labelnames", ())) | {name for each in metric.samples for name in each.labels}
        for end in ends:
            found[f"{metric.name}{end}"] = labels
    for collector in REGISTRY._collector_to_names:  # noqa: SLF001 - labels that nothing has been counted under yet
        name, labels = getattr(collector, "_name", None), set(getattr(collector, "_labelnames", ()))
        for sample in [sample for sample in found if name is not None and sample.startswith(name)]:
            found[sample] |= labels
    return found


def expressions() -> list[str]:
    """Return every PromQL expression of both files."""
    alerts = yaml.safe_load((_FOLDER / "prometheus-alerts.yaml").read_text())
    dashboard = json.loads((_FOLDER / "grafana-dashboard.json").read_text())
    rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    return rules + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_and_labels_that_there_are(expression: str) -> None:
    known = exposed()
    named = _NAME.findall(expression)
    assert set(named) <= known.keys()
    labels = _SCRAPED.union(*(known[name] for name in named))
    for grouped, selected in _LABELS.findall(expression):
        used = re.findall(r"(\w+)\s*=", selected) if selected else grouped.split(", ")
        assert set(used) <= labels


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    shown = " ".join(expressions())
    names = {name.removesuffix("_total") for name in exposed() if name.startswith("unpause_")}
    base = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    assert {name for name in base if name not in shown} == set()


def test_every_alert_is_explained_in_how_to_operate() -> None:
    alerts: Any = yaml.safe_load((_FOLDER / "prometheus-alerts.yaml").read_text())
    page = (ROOT / "docs/how-to/operate.md").read_text()
    for group in alerts["groups"]:
        for rule in group["rules"]:
            assert f"### {rule['alert']}\n" in page
            assert rule["annotations"]["summary"]
