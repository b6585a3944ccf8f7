"""Who has access, and who did what: organizations, users, tokens, the console, the audit trail."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text, UniqueConstraint, text

from unpause.store.columns import Instant, Json, Key
from unpause.store.tables.base import NAME, UUID, WORD, metadata, partial

HASH, SALT = String(64), String(32)

# How long to keep its rows, in seconds: null as the server's settings say, 0 forever.
organizations = Table(
    "organizations",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", NAME, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("keep_ended_runs", Key),
    Column("keep_audit", Key),
    Column("keep_deliveries", Key),
)

# On a server without authentication every caller is the first user of the organization.
users = Table(
    "users",
    metadata,
    Column("id", Key, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("name", NAME, nullable=False),
    Column("full_name", NAME),
    Column("email", NAME),
    Column("role", WORD, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("organization_id", "name"),
)

# API tokens of users and programs. Only their hashes are stored.
tokens = Table(
    "tokens",
    metadata,
    Column("id", WORD, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("user_id", NAME),
    Column("name", NAME),
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
        Column("token_id", WORD, ForeignKey("tokens.id"), nullable=False),
        Column("created_at", Instant, nullable=False),
        Column("expires_at", Instant, nullable=False),
        Index(f"ix_{name}_expires_at", "expires_at"),
    )


# The browsers that are signed in to the console, and the one-time links that sign in; a link is deleted with its use.
console_sessions = _console_credentials("console_sessions")
login_links = _console_credentials("login_links")

# Users whose data is being erased, and by which name the trail knows them; the row goes with the last of their texts.
user_erasures = Table(
    "user_erasures",
    metadata,
    Column("organization_id", Key, ForeignKey("organizations.id"), primary_key=True),
    Column("name", NAME, primary_key=True),
    Column("pseudonym", NAME, nullable=False),
    Column("started_at", Instant, nullable=False),
)

# The audit trail: append-only, and chained by hash once an entry is sealed, which gives it a number. Triggers refuse
# every UPDATE but one that seals an entry, or erases its actor or texts together with their salt, and every DELETE but
# that of entries up to the head's `purged_number`.
audit = Table(
    "audit",
    metadata,
    Column("id", Key, primary_key=True),
    Column("organization_id", Key, ForeignKey("organizations.id"), nullable=False),
    Column("at", Instant, nullable=False),
    Column("action", WORD, nullable=False),
    Column("actor", NAME),
    Column("via", WORD, nullable=False),
    Column("token_id", WORD),
    Column("address", String(64)),
    Column("run_id", UUID),
    Column("subject", NAME),
    Column("decision", WORD),
    Column("note", Text),
    Column("details", Json),
    Column("number", Key),
    Column("actor_salt", SALT),
    Column("actor_digest", HASH),
    Column("texts_salt", SALT),
    Column("texts_digest", HASH),
    Column("hash", HASH),
    Index("ix_audit_organization_id_id", "organization_id", "id"),
    Index("ix_audit_run_id", "run_id"),
    Index("ix_audit_organization_id_number", "organization_id", "number", unique=True),
    partial("ix_audit_unsealed", "organization_id", "id", rows=text("number IS NULL")),
    sqlite_autoincrement=True,
)

# Where each organization's chain ends, and which entry was the last that retention deleted.
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("organization_id", Key, ForeignKey("organizations.id"), primary_key=True),
    Column("number", Key, nullable=False, server_default="0"),
    Column("hash", HASH, nullable=False),
    Column("purged_number", Key, nullable=False, server_default="0"),
    Column("purged_hash", HASH, nullable=False),
)
