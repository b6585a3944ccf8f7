"""What is sent to others, and what the processes that share a database know of each other."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, text

from unpause.store.columns import Instant, Json, Key
from unpause.store.tables.base import NAME, OF_A_RUN, UUID, WORD, metadata, partial

_FAILING = text("last_error IS NOT NULL")

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
    partial("ix_webhook_targets_run_key", "run_key", rows=OF_A_RUN),
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
    Column("run_id", UUID),
    Index("ix_webhook_deliveries_next_attempt_at", "next_attempt_at"),
    Index("ix_webhook_deliveries_created_at", "created_at"),
    partial("ix_webhook_deliveries_failing", "organization_id", "created_at", rows=_FAILING),
    partial("ix_webhook_deliveries_run_id", "run_id", rows=text("run_id IS NOT NULL")),
)

# Where people are told about requests and runs: for an organization, or with a `user_id` for that user. `url` is
# encrypted. In the present window of a minute `window_count` messages were sent.
notification_channels = Table(
    "notification_channels",
    metadata,
    Column("id", Key, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("user_id", NAME),
    Column("name", NAME),
    Column("kind", WORD, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Json, nullable=False),
    Column("scopes", Json),
    Column("token_id", WORD),
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
    Column("event", WORD, nullable=False),
    Column("subject", UUID, nullable=False),
    Column("run_id", UUID, nullable=False),
    Column("agent_id", NAME, nullable=False),
    Column("tool_name", NAME),
    Column("expires_at", Instant),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("batch", UUID),
    Column("next_attempt_at", Instant),
    Column("delivered_at", Instant),
    Column("last_error", Text),
    Column("created_at", Instant, nullable=False),
    Index("ix_notifications_next_attempt_at", "next_attempt_at"),
    Index("ix_notifications_channel_id_next_attempt_at", "channel_id", "next_attempt_at"),
    Index("ix_notifications_batch", "batch"),
    Index("ix_notifications_created_at", "created_at"),
    Index("ix_notifications_run_id", "run_id"),
)

# The requests of a rate limit's key in the present window, where several processes share the database.
rate_counts = Table(
    "rate_counts",
    metadata,
    Column("key", NAME, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("ends_at", Instant, nullable=False),
    Index("ix_rate_counts_ends_at", "ends_at"),
)

# The processes that execute runs, where several share the database: live while `seen_at` is recent by its clock.
# `running` is how many runs a process executed then; null where its code is of before revision 0018.
nodes = Table(
    "nodes",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("name", NAME, nullable=False),
    Column("version", WORD, nullable=False),
    Column("agents", Json, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("running", Integer),
)

# One row: the oldest code, by its newest migration, that works with this schema. Migrations write it.
schema_compatibility = Table("schema_compatibility", metadata, Column("oldest_code", WORD, primary_key=True))
