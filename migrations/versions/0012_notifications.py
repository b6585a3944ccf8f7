"""Notifications: channels, whose URLs are encrypted, and the outbox of what they are told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON()
MOMENT = sa.DateTime(timezone=True)

_INDEXES = (
    ("notification_channels", ["organization_id", "user_id"]),
    ("notifications", ["next_attempt_at"]),
    ("notifications", ["channel_id", "next_attempt_at"]),
    ("notifications", ["batch"]),
    ("notifications", ["created_at"]),
)


def upgrade() -> None:
    op.create_table(
        "notification_channels",
        sa.Column("id", KEY, nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        # None: the organization's.
        sa.Column("user_id", sa.String(255)),
        sa.Column("name", sa.String(255)),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", JSON, nullable=False),
        sa.Column("scopes", JSON),
        sa.Column("token_id", sa.String(32)),
        sa.Column("is_isolated", sa.Boolean(), nullable=False, server_default="1"),
        sa.Column("window_ends_at", MOMENT),
        sa.Column("window_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_sent_at", MOMENT),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_notification_channels_organization_id_organizations"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notification_channels"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.String(96), nullable=False),
        sa.Column("organization_id", KEY, nullable=False),
        sa.Column("channel_id", KEY, nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        # The id of the request, or of the run that failed.
        sa.Column("subject", sa.String(36), nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("agent_id", sa.String(255), nullable=False),
        sa.Column("tool_name", sa.String(255)),
        sa.Column("expires_at", MOMENT),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("batch", sa.String(36)),
        sa.Column("next_attempt_at", MOMENT),
        sa.Column("delivered_at", MOMENT),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_notifications_organization_id_organizations"
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["notification_channels.id"],
            name="fk_notifications_channel_id_notification_channels",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_notifications"),
    )
    for table, columns in _INDEXES:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)


def downgrade() -> None:
    op.drop_table("notifications")
    op.drop_table("notification_channels")
