"""``unpause metrics``: the dashboard and the alert rules that come with the package."""

from __future__ import annotations

import sys
from importlib.resources import files

from cyclopts import App

app = App(name="metrics")


@app.command
def dashboard() -> None:
    """Print the Grafana dashboard, as JSON to import."""
    _print("grafana-dashboard.json")


@app.command
def alerts() -> None:
    """Print the alert rules, as a rules file of Prometheus."""
    _print("prometheus-alerts.yaml")


def _print(name: str) -> None:
    sys.stdout.write((files("unpause") / "operations" / name).read_text(encoding="utf-8"))
