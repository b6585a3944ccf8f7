"""Approvals, expiry of pauses, idempotency keys, and what sessions and runs are made with.

New columns are nullable, so that a run that was paused before goes on after: it has no expiry and no approval record;
a call that waits for an administrator gets its record here, or nobody could ever decide it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

_NEW_COLUMNS = {
    "sessions": [("session_name", sa.Text()), ("session_state", JSON), ("metadata", JSON)],
    "runs": [("session_state", JSON), ("dependencies", JSON)],
    "requirements": [("expires_at", MOMENT), ("on_expire", sa.String(32)), ("remind_at", MOMENT)],
}

_NEW_INDEXES = {
    "sessions": [("ix_sessions_organization_id_updated_at", ["organization_id", "updated_at"])],
    "requirements": [("ix_requirements_expires_at", ["expires_at"]), ("ix_requirements_remind_at", ["remind_at"])],
}


def upgrade() -> None:
    for table, columns in _NEW_COLUMNS.items():
        for name, kind in columns:
            op.add_column(table, sa.Column(name, kind, nullable=True))
    for table, indexes in _NEW_INDEXES.items():
        for name, columns in indexes:
            op.create_index(name, table, columns)
    _create_approvals()
    _create_idempotency_keys()


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    op.drop_table("approvals")
    for table, indexes in _NEW_INDEXES.items():
        for name, _ in indexes:
            op.drop_index(name, table_name=table)
    for table, columns in _NEW_COLUMNS.items():
        for name, _ in columns:
            op.drop_column(table, name)


def _create_approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("approval_type", sa.String(32), nullable=False),
        sa.Column("pause_type", sa.String(32), nullable=False),
        sa.Column("tool_name", sa.String(255), nullable=False),
        sa.Column("tool_args", JSON, nullable=False),
        sa.Column("agent_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255)),
        sa.Column("resolution_data", JSON),
        sa.Column("resolved_by", sa.String(255)),
        sa.Column("resolved_at", MOMENT),
        sa.Column("expires_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_approvals_organization_id_organizations"
        ),
        sa.ForeignKeyConstraint(["run_key"], ["runs.id"], name="fk_approvals_run_key_runs", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["id"], ["requirements.id"], name="fk_approvals_id_requirements", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
    )
    op.create_index(
        "ix_approvals_organization_id_status_created_at", "approvals", ["organization_id", "status", "created_at"]
    )
    op.create_index("ix_approvals_run_key", "approvals", ["run_key"])
    op.execute(
        "INSERT INTO approvals (id, organization_id, run_key, status, approval_type, pause_type,"
        " tool_name, tool_args, agent_id, user_id, created_at, updated_at)"
        " SELECT q.id, r.organization_id, q.run_key, 'pending', q.approval, q.kind, q.tool_name, q.tool_args,"
        " r.agent_id, r.user_id, q.created_at, q.created_at FROM requirements q JOIN runs r ON r.id = q.run_key"
        " WHERE q.approval = 'required' AND q.decision IS NULL AND r.status = 'PAUSED' AND r.pause_id = q.pause_id"
    )


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("run_key", KEY),
        sa.Column("after", sa.Integer(), server_default="0", nullable=False),
        sa.Column("answer", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_idempotency_keys_organization_id_organizations"
        ),
        sa.ForeignKeyConstraint(["run_key"], ["runs.id"], name="fk_idempotency_keys_run_key_runs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("organization_id", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
