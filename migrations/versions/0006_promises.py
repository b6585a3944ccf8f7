"""What the promises need: what the model sent beside what was shown, reasons, tracebacks, and JSON kept as it was.

`jsonb` reorders keys and turns 1e22 into an integer, so an approved call did not run as it was shown: PostgreSQL keeps
the text now. Rows of before are as `jsonb` left them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

JSON = sa.JSON()

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
    # Only administrators are shown it.
    op.add_column("runs", sa.Column("traceback", sa.Text(), nullable=True))
    # `tool`, or `output` for a function that makes the agent's answer.
    op.add_column("tool_calls", sa.Column("kind", sa.String(32), nullable=False, server_default="tool"))
    # What the model sent, where `tool_args`, which are shown and run, differ from it.
    op.add_column("tool_calls", sa.Column("sent_args", JSON, nullable=True))
    # What a tool said when it asked: the reason, and what it wants back with the answer.
    op.add_column("requirements", sa.Column("metadata", JSON, nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        _retype("json")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _retype("jsonb")
    op.drop_column("requirements", "metadata")
    op.drop_column("tool_calls", "sent_args")
    op.drop_column("tool_calls", "kind")
    op.drop_column("runs", "traceback")


def _retype(name: str) -> None:
    """Change every JSON column; one statement a table, so that each is rewritten once."""
    for table, columns in _JSON_COLUMNS.items():
        changes = ", ".join(f'ALTER COLUMN "{column}" TYPE {name} USING "{column}"::{name}' for column in columns)
        op.execute(f'ALTER TABLE "{table}" {changes}')
