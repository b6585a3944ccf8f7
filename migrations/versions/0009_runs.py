"""Runs by their status, and the webhook deliveries that fail: what people look for among many."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_FAILING = sa.text("last_error IS NOT NULL")
# Those that are pending have an index by agent, which no other one may seem to replace.
_STARTED = sa.text("status <> 'PENDING'")


def upgrade() -> None:
    op.create_index(
        "ix_runs_organization_id_status_id",
        "runs",
        ["organization_id", "status", "id"],
        postgresql_where=_STARTED,
        sqlite_where=_STARTED,
    )
    op.create_index(
        "ix_webhook_deliveries_failing",
        "webhook_deliveries",
        ["organization_id", "created_at"],
        postgresql_where=_FAILING,
        sqlite_where=_FAILING,
    )


def downgrade() -> None:
    op.drop_index("ix_webhook_deliveries_failing", "webhook_deliveries")
    op.drop_index("ix_runs_organization_id_status_id", "runs")
