"""A run's first prompt is in its own row: `inputs` has what came with it or later, images and prompts of resumes.

Nothing changes on the way up: rows of before are read as they are.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Leave the rows as they are."""


def downgrade() -> None:
    """Give each run a row with its first prompt, as the version before reads it: its first message carries that."""
    op.execute(
        "INSERT INTO inputs (run_key, position, prompt, consumed, created_by, created_at)"
        " SELECT runs.id, 0, runs.prompt, false, runs.user_id, runs.created_at FROM runs"
        " WHERE NOT EXISTS (SELECT 1 FROM inputs WHERE inputs.run_key = runs.id AND inputs.position = 0)"
    )
    op.execute(
        "UPDATE inputs SET consumed = true"
        " WHERE position = 0 AND EXISTS (SELECT 1 FROM messages WHERE messages.run_key = inputs.run_key)"
    )
