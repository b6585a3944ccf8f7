"""What many nodes need: how often a run's worker died under it, and an index of the runs that are ready.

The index is partial: a backlog of a million paused runs costs it nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_PENDING = sa.text("status = 'PENDING'")


def upgrade() -> None:
    op.add_column("runs", sa.Column("crashes", sa.Integer(), server_default="0", nullable=False))
    op.create_index(
        "ix_runs_pending", "runs", ["organization_id", "id"], postgresql_where=_PENDING, sqlite_where=_PENDING
    )
    # Lists of sessions begin with those made last.
    op.create_index("ix_sessions_organization_id_created_at", "sessions", ["organization_id", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_sessions_organization_id_created_at", table_name="sessions")
    op.drop_index("ix_runs_pending", table_name="runs")
    op.drop_column("runs", "crashes")
