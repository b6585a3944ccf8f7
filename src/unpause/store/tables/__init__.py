"""The tables, by their names."""

from __future__ import annotations

from unpause.store.tables.access import audit, console_sessions, login_links, organizations, tokens, users
from unpause.store.tables.base import metadata
from unpause.store.tables.operation import (
    nodes,
    notification_channels,
    notifications,
    rate_counts,
    webhook_deliveries,
    webhook_targets,
)
from unpause.store.tables.runs import (
    approvals,
    events,
    grants,
    idempotency_keys,
    inputs,
    messages,
    requirements,
    runs,
    sessions,
    tool_calls,
)

__all__ = [
    "approvals",
    "audit",
    "console_sessions",
    "events",
    "grants",
    "idempotency_keys",
    "inputs",
    "login_links",
    "messages",
    "metadata",
    "nodes",
    "notification_channels",
    "notifications",
    "organizations",
    "rate_counts",
    "requirements",
    "runs",
    "sessions",
    "tokens",
    "tool_calls",
    "users",
    "webhook_deliveries",
    "webhook_targets",
]
