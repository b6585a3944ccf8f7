"""What access needs: tokens, who may decide a call and who voted, and an audit trail that nobody can rewrite.

Rows of before are as they were: calls that wait may be decided by whoever could, with one voice.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")
MOMENT = sa.DateTime(timezone=True)

_FORBIDDEN = ("UPDATE", "DELETE")


def upgrade() -> None:
    op.add_column("requirements", sa.Column("deciders", JSON, nullable=True))
    op.add_column("requirements", sa.Column("votes", JSON, nullable=True))
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("name", sa.String(255)),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("revoked_at", MOMENT),
        sa.Column("last_used_at", MOMENT),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_tokens_organization_id_organizations"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    op.create_index("ix_tokens_organization_id", "tokens", ["organization_id"])
    op.create_table(
        "audit",
        sa.Column("id", KEY, nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(255)),
        sa.Column("via", sa.String(32), nullable=False),
        sa.Column("token_id", sa.String(32)),
        sa.Column("address", sa.String(64)),
        sa.Column("run_id", sa.String(36)),
        sa.Column("subject", sa.String(255)),
        sa.Column("decision", sa.String(32)),
        sa.Column("note", sa.Text()),
        sa.Column("details", JSON),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_audit_organization_id_organizations"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_organization_id_id", "audit", ["organization_id", "id"])
    op.create_index("ix_audit_run_id", "audit", ["run_id"])
    _make_append_only()


def _make_append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in _FORBIDDEN:
            op.execute(
                f"CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit"
                " BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
            )
        # REPLACE removes the row that is in its way without asking the trigger above.
        op.execute(
            "CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN NEW.id IN (SELECT id FROM audit)"
            " BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
    )


def downgrade() -> None:
    # The triggers go with the table.
    op.drop_table("audit")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION audit_is_append_only()")
    op.drop_table("tokens")
    op.drop_column("requirements", "votes")
    op.drop_column("requirements", "deciders")
