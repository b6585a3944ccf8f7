"""The trace of a run: the context of its root span, and of the request that continued it last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column; runs of before have no trace."""
    op.add_column("runs", sa.Column("trace", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("runs", "trace")
