"""Grants: decisions that count for later calls, what may be remembered of a decision, and which grant decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

JSON = sa.JSON()
MOMENT = sa.DateTime(timezone=True)
NAME = sa.String(255)
UUID = sa.String(36)
WORD = sa.String(32)
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_INDEXES = (
    ("ix_grants_in_force", ["organization_id", "agent_id", "tool_name"], sa.text("revoked_at IS NULL")),
    ("ix_grants_organization_id_created_at", ["organization_id", "created_at"], None),
    ("ix_grants_session_key", ["session_key"], sa.text("session_key IS NOT NULL")),
    ("ix_grants_run_key", ["run_key"], sa.text("run_key IS NOT NULL")),
)


def upgrade() -> None:
    op.add_column("requirements", sa.Column("remember", JSON, nullable=True))
    op.add_column("requirements", sa.Column("grant_id", UUID, nullable=True))
    op.create_table(
        "grants",
        sa.Column("id", UUID, nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("agent_id", NAME, nullable=False),
        sa.Column("tool_name", NAME, nullable=False),
        sa.Column("user_id", NAME, nullable=True),
        sa.Column("scope", WORD, nullable=False),
        sa.Column("match", WORD, nullable=False),
        sa.Column("session_key", KEY, nullable=True),
        sa.Column("session_id", NAME, nullable=True),
        sa.Column("run_key", KEY, nullable=True),
        sa.Column("run_id", UUID, nullable=True),
        sa.Column("arguments", JSON, nullable=True),
        sa.Column("fingerprint", sa.String(64), nullable=True),
        # The tool's rules when it was granted.
        sa.Column("approval", WORD, nullable=True),
        sa.Column("deciders", JSON, nullable=True),
        sa.Column("granted_by", NAME, nullable=True),
        sa.Column("granter", NAME, nullable=True),
        sa.Column("token_id", WORD, nullable=True),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.Column("revoked_by", NAME, nullable=True),
        sa.Column("uses", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_grants_organization_id_organizations"
        ),
        sa.ForeignKeyConstraint(
            ["session_key"], ["sessions.id"], name="fk_grants_session_key_sessions", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_key"], ["runs.id"], name="fk_grants_run_key_runs", ondelete="CASCADE"),
    )
    for name, columns, rows in _INDEXES:
        op.create_index(name, "grants", columns, postgresql_where=rows, sqlite_where=rows)


def downgrade() -> None:
    op.drop_table("grants")
    op.drop_column("requirements", "grant_id")
    op.drop_column("requirements", "remember")
