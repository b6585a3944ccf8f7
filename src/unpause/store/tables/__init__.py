"""The tables, by their names."""

from __future__ import annotations

from unpause.store.tables.access import (
    audit,
    audit_heads,
    console_sessions,
    login_links,
    organizations,
    tokens,
    user_erasures,
    users,
)
from unpause.store.tables.base import metadata
from unpause.store.tables.operation import (
    nodes,
    notification_channels,
    notifications,
    rate_counts,
    schema_compatibility,
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
    "audit_heads",
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
    "schema_compatibility",
    "sessions",
    "tokens",
    "tool_calls",
    "user_erasures",
    "users",
    "webhook_deliveries",
    "webhook_targets",
]
