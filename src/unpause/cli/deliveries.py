"""``unpause deliveries``: the webhooks and notifications that are stored."""

from __future__ import annotations

from cyclopts import App

from unpause.cli.retention import purge_deliveries

app = App(name="deliveries")
app.command(purge_deliveries, name="purge")
