"""Where a task's end is told, and what of it has not been told yet.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("webhook_url", sa.Text))
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("task_id", sa.String(36), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("next_try_at", sa.Float, nullable=False),
        sa.Column("done_at", sa.Float),
        sa.Column("last_error", sa.Text),
    )
    op.create_index("deliveries_by_time", "deliveries", ["done_at", "next_try_at"])


def downgrade() -> None:
    op.drop_table("deliveries")
    op.drop_column("tasks", "webhook_url")
