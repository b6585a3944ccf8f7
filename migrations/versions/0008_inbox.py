"""What the inbox needs of requirements: whose they are, whether they are open, and when they changed last.

The index of what is open holds only that: what was decided or cancelled costs the inbox nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_OPEN = sa.text("status = 'open'")
_FILL = """
    UPDATE requirements SET
        organization_id = runs.organization_id,
        updated_at = COALESCE(decided_at, requirements.created_at),
        status = CASE
            WHEN decided_via = 'expiry' THEN 'expired'
            WHEN decision IS NOT NULL THEN 'decided'
            WHEN runs.status = 'PAUSED' THEN 'open'
            WHEN runs.end_reason = 'expired' THEN 'expired'
            ELSE 'cancelled'
        END
    FROM runs WHERE runs.id = requirements.run_key
"""


def upgrade() -> None:
    op.add_column("requirements", sa.Column("status", sa.String(32), nullable=False, server_default="open"))
    op.add_column(
        "requirements",
        sa.Column("organization_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
    )
    op.add_column("requirements", sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(_FILL)
    op.create_index(
        "ix_requirements_open",
        "requirements",
        ["organization_id", "created_at", "id"],
        postgresql_where=_OPEN,
        sqlite_where=_OPEN,
    )
    op.create_index("ix_requirements_organization_id_updated_at", "requirements", ["organization_id", "updated_at"])


def downgrade() -> None:
    op.drop_index("ix_requirements_organization_id_updated_at", "requirements")
    op.drop_index("ix_requirements_open", "requirements")
    for column in ("updated_at", "organization_id", "status"):
        op.drop_column("requirements", column)
