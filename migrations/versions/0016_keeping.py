"""The chain of the audit trail, how long an organization's rows are kept, and which users are being erased.

Entries of before are chained when a server seals them first.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from unpause.store.engine import online

revision = "0016"
down_revision = "0015"
# Code of before adds entries without the chain, and reads what it did.
oldest_code = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NAME = sa.String(255)
HASH = sa.String(64)
SALT = sa.String(32)

_CHAIN = (
    ("number", KEY),
    ("actor_salt", SALT),
    ("actor_digest", HASH),
    ("texts_salt", SALT),
    ("texts_digest", HASH),
    ("hash", HASH),
)
_KEPT = ("keep_ended_runs", "keep_audit", "keep_deliveries")
_INDEXES = (
    ("ix_audit_organization_id_number", "audit", ["organization_id", "number"], None),
    ("ix_audit_unsealed", "audit", ["organization_id", "id"], "number IS NULL"),
    ("ix_webhook_deliveries_run_id", "webhook_deliveries", ["run_id"], "run_id IS NOT NULL"),
    ("ix_notifications_run_id", "notifications", ["run_id"], None),
)
_FORBIDDEN = "the audit trail is append-only"
_TEXTS = ("address", "subject", "note", "details")


def _same(*columns: str, like: str = "IS NOT DISTINCT FROM") -> str:
    # PostgreSQL does not compare `json`.
    return " AND ".join(f"CAST(NEW.{name} AS TEXT) {like} CAST(OLD.{name} AS TEXT)" for name in columns)


def _allowed(like: str = "IS NOT DISTINCT FROM") -> str:
    """Return which UPDATE is allowed: one that seals an entry, or one that erases texts together with their salt."""
    what = _same("id", "organization_id", "at", "action", "via", "token_id", "run_id", "decision", like=like)
    actor, texts = _same("actor", like=like), _same(*_TEXTS, like=like)
    chain = _same("number", "actor_digest", "texts_digest", "hash", like=like)
    seals = f"OLD.number IS NULL AND NEW.number IS NOT NULL AND {actor} AND {texts}"
    keeps_actor, keeps_texts = (
        f"({same} AND {_same(salt, like=like)} OR NEW.{salt} IS NULL)"
        for same, salt in ((actor, "actor_salt"), (texts, "texts_salt"))
    )
    erases = f"OLD.number IS NOT NULL AND {chain} AND {keeps_actor} AND {keeps_texts}"
    return f"{what} AND ({seals} OR {erases})"


_PURGED = (
    "EXISTS (SELECT 1 FROM audit_heads WHERE audit_heads.organization_id = OLD.organization_id"
    " AND audit_heads.purged_number >= OLD.number)"
)


def upgrade() -> None:
    for name, kind in _CHAIN:
        online.add_column("audit", sa.Column(name, kind))
    for name in _KEPT:
        online.add_column("organizations", sa.Column(name, KEY))
    online.add_column("webhook_deliveries", sa.Column("run_id", sa.String(36)))
    for name, table, columns, rows in _INDEXES:
        online.create_index(
            name, table, columns, rows=None if rows is None else sa.text(rows), unique="number" in columns
        )
    # What follows is one transaction.
    op.create_table(
        "audit_heads",
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("number", KEY, nullable=False, server_default="0"),
        sa.Column("hash", HASH, nullable=False),
        sa.Column("purged_number", KEY, nullable=False, server_default="0"),
        sa.Column("purged_hash", HASH, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_audit_heads_organization_id_organizations"
        ),
        sa.PrimaryKeyConstraint("organization_id", name="pk_audit_heads"),
    )
    op.create_table(
        "user_erasures",
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("pseudonym", NAME, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_user_erasures_organization_id_organizations"
        ),
        sa.PrimaryKeyConstraint("organization_id", "name", name="pk_user_erasures"),
    )
    if op.get_bind().dialect.name == "sqlite":
        _protect_sqlite()
    else:
        _protect_postgresql()


def _protect_sqlite() -> None:
    for change, allowed in (("update", _allowed("IS")), ("delete", _PURGED)):
        op.execute(f"DROP TRIGGER audit_no_{change}")
        op.execute(
            f"CREATE TRIGGER audit_no_{change} BEFORE {change} ON audit WHEN NOT ({allowed})"
            f" BEGIN SELECT RAISE(ABORT, '{_FORBIDDEN}'); END"
        )


def _protect_postgresql() -> None:
    op.execute("DROP TRIGGER audit_append_only ON audit")
    op.execute(
        "CREATE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF TG_OP = 'UPDATE' THEN IF {_allowed()} THEN RETURN NEW; END IF;"
        f" ELSIF {_PURGED} THEN RETURN OLD; END IF;"
        f" RAISE EXCEPTION '{_FORBIDDEN}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_kept()"
    )
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
    )


def downgrade() -> None:
    for name, table, _, _ in _INDEXES:
        online.drop_index(name, table)
    _unprotect()
    _note_end_of_chains()
    op.drop_table("user_erasures")
    op.drop_table("audit_heads")
    op.drop_column("webhook_deliveries", "run_id")
    for name in _KEPT:
        op.drop_column("organizations", name)
    for name, _ in _CHAIN:
        op.drop_column("audit", name)


def _note_end_of_chains() -> None:
    """Have each trail say where its chain ended: the next upgrade begins a new one, which starts with its entries."""
    heads = sa.table("audit_heads", *map(sa.column, ("organization_id", "number", "hash")))
    audit = sa.table(
        "audit",
        *map(sa.column, ("organization_id", "action", "actor", "via")),
        sa.column("at", sa.DateTime(timezone=True)),
        sa.column("details", sa.JSON()),
    )
    for organization_id, number, newest in op.get_bind().execute(sa.select(heads)).all():
        op.get_bind().execute(
            sa.insert(audit).values(
                organization_id=organization_id,
                at=datetime.now(UTC),
                action="audit.chain_dropped",
                actor="command line",
                via="cli",
                details={"number": number, "hash": newest},
            )
        )


def _unprotect() -> None:
    """Have the triggers of before: nothing changes or removes an entry."""
    if op.get_bind().dialect.name == "sqlite":
        for change in ("update", "delete"):
            op.execute(f"DROP TRIGGER audit_no_{change}")
            op.execute(
                f"CREATE TRIGGER audit_no_{change} BEFORE {change} ON audit"
                f" BEGIN SELECT RAISE(ABORT, '{_FORBIDDEN}'); END"
            )
        return
    op.execute("DROP TRIGGER audit_kept ON audit")
    op.execute("DROP TRIGGER audit_append_only ON audit")
    op.execute("DROP FUNCTION audit_is_kept()")
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
    )
