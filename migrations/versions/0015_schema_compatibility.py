"""The oldest code that works with the schema: a server learns from it whether it works with one newer than itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
# Older code refuses every schema that it does not know.
oldest_code = "0015"


def upgrade() -> None:
    """Create the table; whoever runs the migrations fills it."""
    op.create_table(
        "schema_compatibility",
        sa.Column("oldest_code", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("oldest_code", name="pk_schema_compatibility"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("schema_compatibility")
