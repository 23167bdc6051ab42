"""The task table.

Revision ID: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("cost", sa.Float, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("completed_at", sa.Float),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("lease_until", sa.Float),
        sa.Column("steps_done", sa.Integer, nullable=False),
        sa.Column("pictures", sa.JSON, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("timings", sa.JSON, nullable=False),
    )
    op.create_index("tasks_by_state", "tasks", ["state", "sequence"])
    op.create_index("tasks_by_end", "tasks", ["state", "completed_at"])


def downgrade() -> None:
    op.drop_table("tasks")
