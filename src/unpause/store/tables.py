"""The tables: one row per run, input, message, tool call, requirement and event; nothing is rewritten whole."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    text,
)

from unpause.domain.runs import RunStatus
from unpause.store.columns import Instant, Json, Key

# Named constraints: a later migration can only alter what has a name.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_UUID = String(36)
_NAME = String(255)
_WORD = String(32)
_PENDING, _PAUSED = text("status = 'PENDING'"), text("status = 'PAUSED'")
_FAILING = text("last_error IS NOT NULL")
_OF_A_USER, _OF_A_RUN = text("user_id IS NOT NULL"), text("run_key IS NOT NULL")
_OF_A_SESSION, _NOT_REVOKED = text("session_key IS NOT NULL"), text("revoked_at IS NULL")


def _partial(name: str, *columns: str, rows: TextClause) -> Index:
    """Return an index of these rows alone, on both databases: the migrations create it.

    PostgreSQL's own keyword would load its dialect for a server on SQLite, too.
    """
    return Index(name, *columns, sqlite_where=rows)


organizations = Table(
    "organizations",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("created_at", Instant, nullable=False),
)

# On a server without authentication every caller is the first user of the organization.
users = Table(
    "users",
    metadata,
    Column("id", Key, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("name", _NAME, nullable=False),
    Column("full_name", _NAME),
    Column("email", _NAME),
    Column("role", _WORD, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("organization_id", "name"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Key, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("session_id", _NAME, nullable=False),
    Column("agent_id", _NAME, nullable=False),
    Column("user_id", _NAME),
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
        _partial(f"ix_sessions_organization_id_user_id_{column}", "organization_id", "user_id", column, rows=_OF_A_USER)
        for column in ("created_at", "updated_at")
    ),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run_id", _UUID, nullable=False, unique=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("session_key", Key, ForeignKey("sessions.id"), nullable=False),
    Column("session_id", _NAME, nullable=False),
    Column("agent_id", _NAME, nullable=False),
    Column("user_id", _NAME),
    Column("status", _WORD, nullable=False),
    Column("source_type", _WORD, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("summary", Text),
    Column("metadata", Json),
    Column("session_state", Json),
    Column("dependencies", Json),
    Column("output_schema", Json),
    Column("trace", Text),
    Column("model", _NAME),
    Column("model_provider", _NAME),
    Column("model_choice", _NAME),
    Column("repo_id", BigInteger),
    Column("usage", Json),
    Column("content", Text),
    Column("content_type", _NAME, nullable=False, server_default="str"),
    Column("end_reason", _WORD),
    Column("traceback", Text),
    Column("pause_id", _UUID),
    Column("awaiting", Text),
    Column("pause_requested_at", Instant),
    Column("continued_at", Instant),
    Column("continued_by", _NAME),
    Column("continued_via", _WORD),
    Column("continued_decision", _WORD),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_expires_at", Instant),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("last_sequence", Integer, nullable=False, server_default="0"),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("ended_at", Instant),
    CheckConstraint("status IN ({})".format(", ".join(f"'{status}'" for status in RunStatus)), name="status_is_known"),
    Index("ix_runs_session_key_status_id", "session_key", "status", "id"),
    _partial("ix_runs_pending", "organization_id", "agent_id", "id", rows=_PENDING),
    _partial("ix_runs_paused", "agent_id", rows=_PAUSED),
    _partial("ix_runs_organization_id_user_id_id", "organization_id", "user_id", "id", rows=_OF_A_USER),
    Index("ix_runs_status_lease_expires_at", "status", "lease_expires_at"),
    Index("ix_runs_organization_id_id", "organization_id", "id"),
    Index("ix_runs_organization_id_status_id", "organization_id", "status", "id"),
    Index("ix_runs_organization_id_created_at", "organization_id", "created_at"),
    _partial("ix_runs_ended_at", "ended_at", rows=text("ended_at IS NOT NULL")),
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
    Column("created_by", _NAME),
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
    Column("tool_call_id", _NAME, primary_key=True),
    Column("turn", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("tool_name", _NAME, nullable=False),
    Column("tool_args", Json, nullable=False),
    Column("sent_args", Json),
    Column("kind", _WORD, nullable=False, server_default="tool"),
    Column("status", _WORD, nullable=False),
    Column("idempotent", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("outcome", _WORD),
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
    Column("id", _UUID, primary_key=True),
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("pause_id", _UUID, nullable=False),
    Column("tool_call_id", _NAME, nullable=False),
    Column("call_id", _NAME, nullable=False),
    Column("tool_name", _NAME, nullable=False),
    Column("tool_args", Json, nullable=False),
    Column("kind", _WORD, nullable=False),
    Column("fields", Json),
    Column("editable", Json),
    Column("question", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("in_doubt", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("approval", _WORD),
    Column("message", Text),
    Column("metadata", Json),
    Column("expires_at", Instant),
    Column("on_expire", _WORD),
    Column("remind_at", Instant),
    Column("due_at", Instant),
    Column("deciders", Json),
    Column("votes", Json),
    Column("remember", Json),
    Column("created_at", Instant, nullable=False),
    Column("decision", _WORD),
    Column("note", Text),
    Column("arguments", Json),
    Column("result", Text),
    Column("decided_by", _NAME),
    Column("decided_via", _WORD),
    Column("decided_at", Instant),
    Column("grant_id", _UUID),
    Column("status", _WORD, nullable=False, server_default="open"),
    Column("organization_id", Key),
    Column("updated_at", Instant),
    UniqueConstraint("run_key", "tool_call_id"),
    UniqueConstraint("run_key", "position"),
    _partial("ix_requirements_open", "organization_id", "created_at", "id", rows=text("status = 'open'")),
    Index("ix_requirements_organization_id_updated_at", "organization_id", "updated_at"),
    _partial("ix_requirements_due_at", "due_at", rows=text("due_at IS NOT NULL")),
)

# An approval has the id of the requirement it decides.
approvals = Table(
    "approvals",
    metadata,
    Column("id", _UUID, ForeignKey("requirements.id", ondelete="CASCADE"), primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("status", _WORD, nullable=False),
    Column("approval_type", _WORD, nullable=False),
    Column("pause_type", _WORD, nullable=False),
    Column("tool_name", _NAME, nullable=False),
    Column("tool_args", Json, nullable=False),
    Column("agent_id", _NAME, nullable=False),
    Column("user_id", _NAME),
    Column("resolution_data", Json),
    Column("resolved_by", _NAME),
    Column("resolved_at", Instant),
    Column("expires_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("ix_approvals_organization_id_status_created_at", "organization_id", "status", "created_at"),
    Index("ix_approvals_run_key", "run_key"),
    _partial(
        "ix_approvals_organization_id_user_id_created_at", "organization_id", "user_id", "created_at", rows=_OF_A_USER
    ),
)

# Decisions that count for later calls. A grant has the id of the requirement whose decision it remembers, and may
# outlive that. It ends with what it is bound to: its session, or its run.
grants = Table(
    "grants",
    metadata,
    Column("id", _UUID, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("agent_id", _NAME, nullable=False),
    Column("tool_name", _NAME, nullable=False),
    Column("user_id", _NAME),
    Column("scope", _WORD, nullable=False),
    Column("match", _WORD, nullable=False),
    Column("session_key", Key, ForeignKey("sessions.id", ondelete="CASCADE")),
    Column("session_id", _NAME),
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE")),
    Column("run_id", _UUID),
    Column("arguments", Json),
    Column("fingerprint", String(64)),
    Column("approval", _WORD),
    Column("deciders", Json),
    Column("granted_by", _NAME),
    Column("granter", _NAME),
    Column("token_id", _WORD),
    Column("expires_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Column("revoked_by", _NAME),
    Column("uses", Integer, nullable=False, server_default="0"),
    Column("last_used_at", Instant),
    _partial("ix_grants_in_force", "organization_id", "agent_id", "tool_name", rows=_NOT_REVOKED),
    Index("ix_grants_organization_id_created_at", "organization_id", "created_at"),
    _partial("ix_grants_session_key", "session_key", rows=_OF_A_SESSION),
    _partial("ix_grants_run_key", "run_key", rows=_OF_A_RUN),
)

# The effect of a request with an Idempotency-Key: the run, the last event before it, and the response once known.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("organization_id", Key, ForeignKey("organizations.id"), primary_key=True),
    Column("key", _NAME, primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE")),
    Column("after", Integer, nullable=False, server_default="0"),
    Column("answer", Text),
    Column("created_at", Instant, nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
    _partial("ix_idempotency_keys_run_key", "run_key", rows=_OF_A_RUN),
)

events = Table(
    "events",
    metadata,
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("type", _WORD, nullable=False),
    Column("payload", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
)

# Webhooks: for all runs of an organization, or with a `run_key` for that run alone. Secrets are encrypted.
webhook_targets = Table(
    "webhook_targets",
    metadata,
    Column("id", Key, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("run_key", Key, ForeignKey("runs.id", ondelete="CASCADE")),
    Column("url", Text, nullable=False),
    Column("secret", Text),
    Column("enabled", Boolean(create_constraint=False), nullable=False, server_default="1"),
    Column("created_at", Instant, nullable=False),
    Index("ix_webhook_targets_organization_id_run_key", "organization_id", "run_key"),
    _partial("ix_webhook_targets_run_key", "run_key", rows=_OF_A_RUN),
)

# The outbox: one row a message and target, written with the change it describes. Finished: `next_attempt_at` is null.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text),
    Column("payload", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", Instant),
    Column("delivered_at", Instant),
    Column("last_error", Text),
    Column("created_at", Instant, nullable=False),
    Index("ix_webhook_deliveries_next_attempt_at", "next_attempt_at"),
    Index("ix_webhook_deliveries_created_at", "created_at"),
    _partial("ix_webhook_deliveries_failing", "organization_id", "created_at", rows=_FAILING),
)

# Where people are told about requests and runs: for an organization, or with a `user_id` for that user. `url` is
# encrypted. In the present window of a minute `window_count` messages were sent.
notification_channels = Table(
    "notification_channels",
    metadata,
    Column("id", Key, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("user_id", _NAME),
    Column("name", _NAME),
    Column("kind", _WORD, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Json, nullable=False),
    Column("scopes", Json),
    Column("token_id", _WORD),
    Column("is_isolated", Boolean(create_constraint=False), nullable=False, server_default="1"),
    Column("window_ends_at", Instant),
    Column("window_count", Integer, nullable=False, server_default="0"),
    Column("last_sent_at", Instant),
    Column("last_error", Text),
    Column("created_at", Instant, nullable=False),
    Index("ix_notification_channels_organization_id_user_id", "organization_id", "user_id"),
    sqlite_autoincrement=True,
)

# Their outbox: one row a fact and channel. `batch` is the last attempt, which may have been for several.
notifications = Table(
    "notifications",
    metadata,
    Column("id", String(96), primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("channel_id", Key, ForeignKey("notification_channels.id", ondelete="CASCADE"), nullable=False),
    Column("event", _WORD, nullable=False),
    Column("subject", _UUID, nullable=False),
    Column("run_id", _UUID, nullable=False),
    Column("agent_id", _NAME, nullable=False),
    Column("tool_name", _NAME),
    Column("expires_at", Instant),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("batch", _UUID),
    Column("next_attempt_at", Instant),
    Column("delivered_at", Instant),
    Column("last_error", Text),
    Column("created_at", Instant, nullable=False),
    Index("ix_notifications_next_attempt_at", "next_attempt_at"),
    Index("ix_notifications_channel_id_next_attempt_at", "channel_id", "next_attempt_at"),
    Index("ix_notifications_batch", "batch"),
    Index("ix_notifications_created_at", "created_at"),
)

# The requests of a rate limit's key in the present window, where several processes share the database.
rate_counts = Table(
    "rate_counts",
    metadata,
    Column("key", _NAME, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("ends_at", Instant, nullable=False),
    Index("ix_rate_counts_ends_at", "ends_at"),
)

# The processes that execute runs, where several share the database: live while `seen_at` is recent by its clock.
nodes = Table(
    "nodes",
    metadata,
    Column("id", _UUID, primary_key=True),
    Column("name", _NAME, nullable=False),
    Column("version", _WORD, nullable=False),
    Column("agents", Json, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
)

# API tokens of users and programs. Only their hashes are stored.
tokens = Table(
    "tokens",
    metadata,
    Column("id", _WORD, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("user_id", _NAME),
    Column("name", _NAME),
    Column("hash", String(64), nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("last_used_at", Instant),
    Index("ix_tokens_organization_id", "organization_id"),
)


def _console_credentials(name: str) -> Table:
    """Return a table of what acts as a token for a short time; only hashes are stored."""
    return Table(
        name,
        metadata,
        Column("hash", String(64), primary_key=True),
        Column("token_id", _WORD, ForeignKey("tokens.id"), nullable=False),
        Column("created_at", Instant, nullable=False),
        Column("expires_at", Instant, nullable=False),
        Index(f"ix_{name}_expires_at", "expires_at"),
    )


# The browsers that are signed in to the console, and the one-time links that sign in; a link is deleted with its use.
console_sessions = _console_credentials("console_sessions")
login_links = _console_credentials("login_links")

# The audit trail: append-only. Triggers refuse an UPDATE or DELETE, also when the run is deleted.
audit = Table(
    "audit",
    metadata,
    Column("id", Key, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("action", _WORD, nullable=False),
    Column("actor", _NAME),
    Column("via", _WORD, nullable=False),
    Column("token_id", _WORD),
    Column("address", String(64)),
    Column("run_id", _UUID),
    Column("subject", _NAME),
    Column("decision", _WORD),
    Column("note", Text),
    Column("details", Json),
    Index("ix_audit_organization_id_id", "organization_id", "id"),
    Index("ix_audit_run_id", "run_id"),
    sqlite_autoincrement=True,
)
