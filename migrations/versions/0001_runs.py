"""Organizations, sessions, runs and everything a run is made of.

Events, messages, tool calls and requirements are rows of their own that are only added or settled: a run that is
continued for the thousandth time writes no more than it did the first time.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

# SQLite only counts up by itself in a column that is exactly INTEGER.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "organizations",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
    )
    # Until tokens name others there is one organization, and every run belongs to it.
    # It gets the id 1, as the first row; were that written here, PostgreSQL would give it to the second one, too.
    op.execute("INSERT INTO organizations (name, created_at) VALUES ('default', CURRENT_TIMESTAMP)")
    op.create_table(
        "sessions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("session_id", sa.String(length=255), nullable=False),
        sa.Column("agent_id", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_sessions_organization_id_organizations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("organization_id", "session_id", name=op.f("uq_sessions_organization_id_session_id")),
    )
    op.create_table(
        "runs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("session_key", KEY, nullable=False),
        sa.Column("session_id", sa.String(length=255), nullable=False),
        sa.Column("agent_id", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("source_type", sa.String(length=32), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=True),
        sa.Column("metadata", JSON, nullable=True),
        sa.Column("model", sa.String(length=255), nullable=True),
        sa.Column("model_provider", sa.String(length=255), nullable=True),
        sa.Column("usage", JSON, nullable=True),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("content_type", sa.String(length=255), server_default="str", nullable=False),
        sa.Column("end_reason", sa.String(length=32), nullable=True),
        sa.Column("pause_id", sa.String(length=36), nullable=True),
        sa.Column("continued_at", MOMENT, nullable=True),
        sa.Column("continued_by", sa.String(length=255), nullable=True),
        sa.Column("continued_via", sa.String(length=32), nullable=True),
        sa.Column("continued_decision", sa.String(length=32), nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", MOMENT, nullable=True),
        sa.Column("last_sequence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.CheckConstraint(
            "status IN ('PENDING', 'RUNNING', 'PAUSED', 'COMPLETED', 'CANCELLED', 'ERROR')",
            name=op.f("ck_runs_status_is_known"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_runs_organization_id_organizations")
        ),
        sa.ForeignKeyConstraint(["session_key"], ["sessions.id"], name=op.f("fk_runs_session_key_sessions")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("run_id", name=op.f("uq_runs_run_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_runs_organization_id_id", "runs", ["organization_id", "id"], unique=False)
    op.create_index("ix_runs_session_key_status_id", "runs", ["session_key", "status", "id"], unique=False)
    op.create_index("ix_runs_status_lease_expires_at", "runs", ["status", "lease_expires_at"], unique=False)

    op.create_table(
        "events",
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["runs.id"], name=op.f("fk_events_run_key_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", "sequence", name=op.f("pk_events")),
    )
    op.create_table(
        "inputs",
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("images", JSON, nullable=True),
        sa.Column("consumed", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["runs.id"], name=op.f("fk_inputs_run_key_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", "position", name=op.f("pk_inputs")),
    )
    op.create_table(
        "messages",
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("native", JSON, nullable=False),
        sa.Column("entries", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["runs.id"], name=op.f("fk_messages_run_key_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", "position", name=op.f("pk_messages")),
    )
    op.create_table(
        "requirements",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("pause_id", sa.String(length=36), nullable=False),
        sa.Column("tool_call_id", sa.String(length=255), nullable=False),
        sa.Column("call_id", sa.String(length=255), nullable=False),
        sa.Column("tool_name", sa.String(length=255), nullable=False),
        sa.Column("tool_args", JSON, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("fields", JSON, nullable=True),
        sa.Column("editable", JSON, nullable=True),
        sa.Column("question", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("in_doubt", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("approval", sa.String(length=32), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("decision", sa.String(length=32), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("arguments", JSON, nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.String(length=255), nullable=True),
        sa.Column("decided_via", sa.String(length=32), nullable=True),
        sa.Column("decided_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["run_key"], ["runs.id"], name=op.f("fk_requirements_run_key_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requirements")),
        sa.UniqueConstraint("run_key", "position", name=op.f("uq_requirements_run_key_position")),
        sa.UniqueConstraint("run_key", "tool_call_id", name=op.f("uq_requirements_run_key_tool_call_id")),
    )
    op.create_table(
        "tool_calls",
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("tool_call_id", sa.String(length=255), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("tool_name", sa.String(length=255), nullable=False),
        sa.Column("tool_args", JSON, nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("idempotent", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=True),
        sa.Column("result", JSON, nullable=True),
        sa.Column("result_text", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["run_key"], ["runs.id"], name=op.f("fk_tool_calls_run_key_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", "tool_call_id", name=op.f("pk_tool_calls")),
    )


def downgrade() -> None:
    """Go down."""
    op.drop_table("tool_calls")
    op.drop_table("requirements")
    op.drop_table("messages")
    op.drop_table("inputs")
    op.drop_table("events")
    op.drop_index("ix_runs_status_lease_expires_at", table_name="runs")
    op.drop_index("ix_runs_session_key_status_id", table_name="runs")
    op.drop_index("ix_runs_organization_id_id", table_name="runs")

    op.drop_table("runs")
    op.drop_table("sessions")
    op.drop_table("organizations")
