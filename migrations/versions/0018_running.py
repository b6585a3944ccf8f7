"""How many runs each node executes, for operators: it writes that with its heartbeat."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
# Code of before leaves it out.
oldest_code = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("running", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("nodes", "running")
