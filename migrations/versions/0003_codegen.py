"""What the Codegen contract needs: users, the model and repository of a run, pauses on request, webhooks, rate counts.

New columns of runs are nullable, so that a run that was paused before goes on after. What a paused run awaits, in
words, stays unsaid for those until their next pause.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)

_RUN_COLUMNS = (
    ("model_choice", sa.String(255)),
    ("repo_id", sa.BigInteger()),
    ("awaiting", sa.Text()),
    ("pause_requested_at", MOMENT),
)


def upgrade() -> None:
    for name, kind in _RUN_COLUMNS:
        op.add_column("runs", sa.Column(name, kind, nullable=True))
    op.create_index("ix_runs_organization_id_created_at", "runs", ["organization_id", "created_at"])
    op.create_table(
        "users",
        sa.Column("id", KEY, nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("full_name", sa.String(255)),
        sa.Column("email", sa.String(255)),
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_users_organization_id_organizations"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("organization_id", "name", name="uq_users_organization_id_name"),
    )
    # The id is left to the database, as with organizations: else PostgreSQL would give it to the second one, too.
    op.execute(
        "INSERT INTO users (organization_id, name, role, created_at)"
        " SELECT min(id), 'local', 'ADMIN', CURRENT_TIMESTAMP FROM organizations"
    )
    _create_webhooks()
    op.create_table(
        "rate_counts",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("ends_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_rate_counts"),
    )
    op.create_index("ix_rate_counts_ends_at", "rate_counts", ["ends_at"])


def downgrade() -> None:
    for table in ("rate_counts", "webhook_deliveries", "webhook_targets", "users"):
        op.drop_table(table)
    op.drop_index("ix_runs_organization_id_created_at", table_name="runs")
    for name, _ in _RUN_COLUMNS:
        op.drop_column("runs", name)


def _create_webhooks() -> None:
    op.create_table(
        "webhook_targets",
        sa.Column("id", KEY, nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("run_key", KEY),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text()),
        sa.Column("enabled", sa.Boolean(), server_default="1", nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_webhook_targets_organization_id_organizations"
        ),
        sa.ForeignKeyConstraint(["run_key"], ["runs.id"], name="fk_webhook_targets_run_key_runs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_targets"),
    )
    op.create_index("ix_webhook_targets_organization_id_run_key", "webhook_targets", ["organization_id", "run_key"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text()),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", MOMENT),
        sa.Column("delivered_at", MOMENT),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_webhook_deliveries_organization_id_organizations"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    op.create_index("ix_webhook_deliveries_next_attempt_at", "webhook_deliveries", ["next_attempt_at"])
    op.create_index("ix_webhook_deliveries_created_at", "webhook_deliveries", ["created_at"])
