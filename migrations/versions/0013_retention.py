"""Runs by the moment at which they ended: what a server that forgets old ones looks for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_ENDED = sa.text("ended_at IS NOT NULL")


def upgrade() -> None:
    op.create_index("ix_runs_ended_at", "runs", ["ended_at"], postgresql_where=_ENDED, sqlite_where=_ENDED)


def downgrade() -> None:
    op.drop_index("ix_runs_ended_at", "runs")
