"""What the console needs: its signed-in browsers and the one-time links, of both only a hash.

A session and a link act as a token: revoking the token ends them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

MOMENT = sa.DateTime(timezone=True)
_TABLES = ("console_sessions", "login_links")


def upgrade() -> None:
    for table in _TABLES:
        op.create_table(
            table,
            sa.Column("hash", sa.String(64), nullable=False),
            sa.Column("token_id", sa.String(32), nullable=False),
            sa.Column("created_at", MOMENT, nullable=False),
            sa.Column("expires_at", MOMENT, nullable=False),
            sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name=f"fk_{table}_token_id_tokens"),
            sa.PrimaryKeyConstraint("hash", name=f"pk_{table}"),
        )
        op.create_index(f"ix_{table}_expires_at", table, ["expires_at"])


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
