"""The tools and the context that a front end brings for its run: a restart must not lose them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
# Code of before runs such an agent without them.
oldest_code = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("frontend", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "frontend")
