"""Runs: one row per run, input, message, tool call, requirement and event; nothing is rewritten whole."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from unpause.domain.runs import RunStatus
from unpause.store.columns import Instant, Json, Key
from unpause.store.tables.base import NAME, OF_A_RUN, OF_A_USER, UUID, WORD, metadata, partial

_PENDING = text("status = 'PENDING'")
_PAUSED = text("status = 'PAUSED'")
# PostgreSQL would otherwise prefer this index to that of the pending ones, and read those of all agents.
_STARTED = text("status <> 'PENDING'")
_OF_A_SESSION = text("session_key IS NOT NULL")
_NOT_REVOKED = text("revoked_at IS NULL")

sessions = Table(
    "sessions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("session_id", NAME, nullable=False),
    Column("agent_id", NAME, nullable=False),
    Column("user_id", NAME),
    Column("session_name", Text),
    Column("session_state", Json),
    Column("metadata", Json),
    Column("summary", Json),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("organization_id", "session_id"),
    Index("ix_sessions_organization_id_updated_at", "organization_id", "updated_at"),
    Index("ix_sessions_organization_id_created_at", "organization_id", "created_at"),
    *(
        partial(f"ix_sessions_organization_id_user_id_{column}", "organization_id", "user_id", column, rows=OF_A_USER)
        for column in ("created_at", "updated_at")
    ),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", UUID, nullable=False, unique=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("session_key", Key, ForeignKey("sessions.id"), nullable=False),
    Column("session_id", NAME, nullable=False),
    Column("agent_id", NAME, nullable=False),
    Column("user_id", NAME),
    Column("status", WORD, nullable=False),
    Column("source_type", WORD, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("summary", Text),
    Column("metadata", Json),
    Column("session_state", Json),
    Column("dependencies", Json),
    Column("output_schema", Json),
    Column("frontend", Json),
    Column("trace", Text),
    Column("model", NAME),
    Column("model_provider", NAME),
    Column("model_choice", NAME),
    Column("repo_id", BigInteger),
    Column("usage", Json),
    Column("content", Text),
    Column("content_type", NAME, nullable=False, server_default="str"),
    Column("end_reason", WORD),
    Column("traceback", Text),
    Column("pause_id", UUID),
    Column("awaiting", Text),
    Column("pause_requested_at", Instant),
    Column("continued_at", Instant),
    Column("continued_by", NAME),
    Column("continued_via", WORD),
    Column("continued_decision", WORD),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_expires_at", Instant),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("last_sequence", Integer, nullable=False, server_default="0"),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("ended_at", Instant),
    CheckConstraint("status IN ({})".format(", ".join(f"'{status}'" for status in RunStatus)), name="status_is_known"),
    Index("ix_runs_session_key_status_id", "session_key", "status", "id"),
    partial("ix_runs_pending", "organization_id", "agent_id", "id", rows=_PENDING),
    partial("ix_runs_paused", "agent_id", rows=_PAUSED),
    partial("ix_runs_organization_id_user_id_id", "organization_id", "user_id", "id", rows=OF_A_USER),
    Index("ix_runs_status_lease_expires_at", "status", "lease_expires_at"),
    Index("ix_runs_organization_id_id", "organization_id", "id"),
    partial("ix_runs_organization_id_status_id", "organization_id", "status", "id", rows=_STARTED),
    Index("ix_runs_organization_id_created_at", "organization_id", "created_at"),
    partial("ix_runs_ended_at", "ended_at", rows=text("ended_at IS NOT NULL")),
    sqlite_autoincrement=True,
)

inputs = Table(
    "inputs",
    metadata,
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("prompt", Text, nullable=False),
    Column("images", Json),
    Column("consumed", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("created_by", NAME),
    Column("created_at", Instant, nullable=False),
)

messages = Table(
    "messages",
    metadata,
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("native", Json, nullable=False),
    Column("entries", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
)

tool_calls = Table(
    "tool_calls",
    metadata,
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("tool_call_id", NAME, primary_key=True),
    Column("turn", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("tool_name", NAME, nullable=False),
    Column("tool_args", Json, nullable=False),
    Column("sent_args", Json),
    Column("kind", WORD, nullable=False, server_default="tool"),
    Column("status", WORD, nullable=False),
    Column("idempotent", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("outcome", WORD),
    Column("result", Json),
    Column("result_text", Text),
    Column("created_at", Instant, nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
)

# `due_at` is the earlier of reminder and expiry, for the sweep; null where there is neither any more. `status`,
# `organization_id` and `updated_at` are for the inbox: what waits in all runs, and what changed since.
requirements = Table(
    "requirements",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("pause_id", UUID, nullable=False),
    Column("tool_call_id", NAME, nullable=False),
    Column("call_id", NAME, nullable=False),
    Column("tool_name", NAME, nullable=False),
    Column("tool_args", Json, nullable=False),
    Column("kind", WORD, nullable=False),
    Column("fields", Json),
    Column("editable", Json),
    Column("question", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("in_doubt", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("approval", WORD),
    Column("message", Text),
    Column("metadata", Json),
    Column("expires_at", Instant),
    Column("on_expire", WORD),
    Column("remind_at", Instant),
    Column("due_at", Instant),
    Column("deciders", Json),
    Column("votes", Json),
    Column("remember", Json),
    Column("created_at", Instant, nullable=False),
    Column("decision", WORD),
    Column("note", Text),
    Column("arguments", Json),
    Column("result", Text),
    Column("decided_by", NAME),
    Column("decided_via", WORD),
    Column("decided_at", Instant),
    Column("grant_id", UUID),
    Column("status", WORD, nullable=False, server_default="open"),
    Column("organization_id", Key),
    Column("updated_at", Instant),
    UniqueConstraint("run_key", "tool_call_id"),
    UniqueConstraint("run_key", "position"),
    partial("ix_requirements_open", "organization_id", "created_at", "id", rows=text("status = 'open'")),
    Index("ix_requirements_organization_id_updated_at", "organization_id", "updated_at"),
    partial("ix_requirements_due_at", "due_at", rows=text("due_at IS NOT NULL")),
)

# An approval has the id of the requirement it decides.
approvals = Table(
    "approvals",
    metadata,
    Column("id", UUID, ForeignKey("requirements.id", ondelete="CASCADE"), primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("status", WORD, nullable=False),
    Column("approval_type", WORD, nullable=False),
    Column("pause_type", WORD, nullable=False),
    Column("tool_name", NAME, nullable=False),
    Column("tool_args", Json, nullable=False),
    Column("agent_id", NAME, nullable=False),
    Column("user_id", NAME),
    Column("resolution_data", Json),
    Column("resolved_by", NAME),
    Column("resolved_at", Instant),
    Column("expires_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("ix_approvals_organization_id_status_created_at", "organization_id", "status", "created_at"),
    Index("ix_approvals_run_key", "run_key"),
    partial(
        "ix_approvals_organization_id_user_id_created_at", "organization_id", "user_id", "created_at", rows=OF_A_USER
    ),
)

# Decisions that count for later calls. A grant has the id of the requirement whose decision it remembers, and may
# outlive that. It ends with what it is bound to: its session, or its run.
grants = Table(
    "grants",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("agent_id", NAME, nullable=False),
    Column("tool_name", NAME, nullable=False),
    Column("user_id", NAME),
    Column("scope", WORD, nullable=False),
    Column("match", WORD, nullable=False),
    Column("session_key", Key, ForeignKey("sessions.id", ondelete="CASCADE")),
    Column("session_id", NAME),
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE")),
    Column("run_id", UUID),
    Column("arguments", Json),
    Column("fingerprint", String(64)),
    Column("approval", WORD),
    Column("deciders", Json),
    Column("granted_by", NAME),
    Column("granter", NAME),
    Column("token_id", WORD),
    Column("expires_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Column("revoked_by", NAME),
    Column("uses", Integer, nullable=False, server_default="0"),
    Column("last_used_at", Instant),
    partial("ix_grants_in_force", "organization_id", "agent_id", "tool_name", rows=_NOT_REVOKED),
    Index("ix_grants_organization_id_created_at", "organization_id", "created_at"),
    partial("ix_grants_session_key", "session_key", rows=_OF_A_SESSION),
    partial("ix_grants_run_key", "run_key", rows=OF_A_RUN),
)

# The effect of a request with an Idempotency-Key: the run, the last event before it, and the response once known.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("organization_id", Key, ForeignKey("organizations.id"), primary_key=True),
    Column("key", NAME, primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE")),
    Column("after", Integer, nullable=False, server_default="0"),
    Column("answer", Text),
    Column("created_at", Instant, nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
    partial("ix_idempotency_keys_run_key", "run_key", rows=OF_A_RUN),
)

events = Table(
    "events",
    metadata,
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("type", WORD, nullable=False),
    Column("payload", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
)
