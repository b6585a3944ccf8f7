"""What the promises need: what the model sent beside what was shown, reasons, tracebacks, and JSON kept as it was.

Further: when the sweep next has to look at a requirement, which nodes are alive with which agents, and indexes for what
was looked for from end to end: what is due, which agents have runs that wait, what refers to a run that is deleted, and
the lists of one user.

`jsonb` reorders keys and turns 1e22 into an integer, so an approved call did not run as it was shown: PostgreSQL keeps
the text now. Rows of before are as `jsonb` left them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from unpause.store.large_results import MARK, text_of, unfold

revision = "0006"
down_revision = "0005"

JSON = sa.JSON()
MOMENT = sa.DateTime(timezone=True)

_PENDING, _PAUSED = sa.text("status = 'PENDING'"), sa.text("status = 'PAUSED'")
_DUE, _OF_A_RUN = sa.text("due_at IS NOT NULL"), sa.text("run_key IS NOT NULL")
_OF_A_USER = sa.text("user_id IS NOT NULL")

# Name, table, columns, and which rows.
_INDEXES = (
    ("ix_runs_pending", "runs", ["organization_id", "agent_id", "id"], _PENDING),
    ("ix_runs_paused", "runs", ["agent_id"], _PAUSED),
    ("ix_runs_organization_id_user_id_id", "runs", ["organization_id", "user_id", "id"], _OF_A_USER),
    (
        "ix_sessions_organization_id_user_id_created_at",
        "sessions",
        ["organization_id", "user_id", "created_at"],
        _OF_A_USER,
    ),
    (
        "ix_sessions_organization_id_user_id_updated_at",
        "sessions",
        ["organization_id", "user_id", "updated_at"],
        _OF_A_USER,
    ),
    (
        "ix_approvals_organization_id_user_id_created_at",
        "approvals",
        ["organization_id", "user_id", "created_at"],
        _OF_A_USER,
    ),
    ("ix_requirements_due_at", "requirements", ["due_at"], _DUE),
    ("ix_idempotency_keys_run_key", "idempotency_keys", ["run_key"], _OF_A_RUN),
    ("ix_webhook_targets_run_key", "webhook_targets", ["run_key"], _OF_A_RUN),
)
_DUE_OF_OPEN = """
    UPDATE requirements
    SET due_at = CASE WHEN remind_at IS NULL OR remind_at > expires_at THEN expires_at ELSE remind_at END
    WHERE decision IS NULL AND expires_at IS NOT NULL
    AND EXISTS (SELECT 1 FROM runs WHERE runs.id = run_key AND runs.status = 'PAUSED')
"""

_JSON_COLUMNS = {
    "sessions": ("session_state", "metadata"),
    "runs": ("metadata", "session_state", "dependencies", "usage"),
    "inputs": ("images",),
    "messages": ("native", "entries"),
    "tool_calls": ("tool_args", "result"),
    "requirements": ("tool_args", "fields", "editable", "deciders", "votes", "arguments"),
    "approvals": ("tool_args", "resolution_data"),
    "events": ("payload",),
    "tokens": ("scopes",),
    "audit": ("details",),
}


def upgrade() -> None:
    op.add_column("sessions", sa.Column("summary", JSON, nullable=True))
    op.add_column("runs", sa.Column("output_schema", JSON, nullable=True))
    # Only administrators are shown it.
    op.add_column("runs", sa.Column("traceback", sa.Text(), nullable=True))
    # `tool`, or `output` for a function that makes the agent's answer.
    op.add_column("tool_calls", sa.Column("kind", sa.String(32), nullable=False, server_default="tool"))
    # What the model sent, where `tool_args`, which are shown and run, differ from it.
    op.add_column("tool_calls", sa.Column("sent_args", JSON, nullable=True))
    # What a tool said when it asked: the reason, and what it wants back with the answer.
    op.add_column("requirements", sa.Column("metadata", JSON, nullable=True))
    # The earlier of reminder and expiry, while nobody has answered and the run waits.
    op.add_column("requirements", sa.Column("due_at", MOMENT, nullable=True))
    op.execute(_DUE_OF_OPEN)
    op.create_table(
        "nodes",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("agents", JSON, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
    )
    for name in ("ix_requirements_expires_at", "ix_requirements_remind_at"):
        op.drop_index(name, "requirements")
    op.drop_index("ix_runs_pending", "runs")
    for name, table, columns, rows in _INDEXES:
        op.create_index(name, table, columns, postgresql_where=rows, sqlite_where=rows)
    if op.get_bind().dialect.name == "postgresql":
        _retype("json")


def downgrade() -> None:
    _store_results_everywhere()
    for name, table, _, _ in reversed(_INDEXES):
        op.drop_index(name, table)
    op.create_index(
        "ix_runs_pending", "runs", ["organization_id", "id"], postgresql_where=_PENDING, sqlite_where=_PENDING
    )
    for column in ("expires_at", "remind_at"):
        op.create_index(f"ix_requirements_{column}", "requirements", [column])
    op.drop_table("nodes")
    op.drop_column("requirements", "due_at")
    if op.get_bind().dialect.name == "postgresql":
        _retype("jsonb")
    op.drop_column("requirements", "metadata")
    op.drop_column("tool_calls", "sent_args")
    op.drop_column("tool_calls", "kind")
    op.drop_column("runs", "traceback")
    op.drop_column("runs", "output_schema")
    op.drop_column("sessions", "summary")


def _retype(name: str) -> None:
    """Change every JSON column; one statement a table, so that each is rewritten once."""
    for table, columns in _JSON_COLUMNS.items():
        changes = ", ".join(f'ALTER COLUMN "{column}" TYPE {name} USING "{column}"::{name}' for column in columns)
        op.execute(f'ALTER TABLE "{table}" {changes}')


def _store_results_everywhere() -> None:
    """Put large results back wherever the version before reads them from."""
    bind = op.get_bind()
    names = map(sa.column, ("run_key", "tool_call_id", "outcome", "result_text"))
    calls = sa.table("tool_calls", *names, sa.column("result", JSON))
    bare = sa.select(calls.c.run_key, calls.c.tool_call_id, calls.c.result).where(
        calls.c.result_text.is_(None), calls.c.result.is_not(None), calls.c.outcome.is_not(None)
    )
    for row in bind.execute(bare).all():
        named = (calls.c.run_key == row.run_key, calls.c.tool_call_id == row.tool_call_id)
        if row.result is not None:
            bind.execute(sa.update(calls).where(*named).values(result_text=text_of(row.result)))
    kept_in = (("messages", "position", ("native", "entries")), ("events", "sequence", ("payload",)))
    for name, number, columns in kept_in:
        table = sa.table(name, *map(sa.column, ("run_key", number)), *(sa.column(column, JSON) for column in columns))
        marked = sa.or_(*(sa.cast(table.c[column], sa.Text).like(f'%"{MARK}"%') for column in columns))
        for row in bind.execute(sa.select(table).where(marked)).mappings().all():
            values = {column: row[column] for column in columns}
            unfold(bind, [(row["run_key"], value) for value in values.values()])
            place = (table.c.run_key == row["run_key"], table.c[number] == row[number])
            bind.execute(sa.update(table).where(*place).values(**values))
