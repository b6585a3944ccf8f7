"""Who has access, and who did what: organizations, users, tokens, the console, the audit trail."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text, UniqueConstraint

from unpause.store.columns import Instant, Json, Key
from unpause.store.tables.base import NAME, UUID, WORD, metadata

organizations = Table(
    "organizations",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", NAME, nullable=False),
    Column("created_at", Instant, nullable=False),
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

# The audit trail: append-only. Triggers refuse an UPDATE or DELETE, also when the run is deleted.
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
    Index("ix_audit_organization_id_id", "organization_id", "id"),
    Index("ix_audit_run_id", "run_id"),
    sqlite_autoincrement=True,
)
