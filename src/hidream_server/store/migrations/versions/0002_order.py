"""The order of the queue is a number of its own, no longer that of submission.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("due", sa.Float, nullable=False, server_default="0"))
    op.execute("UPDATE tasks SET due = created_at")
    op.drop_index("tasks_by_state", "tasks")
    op.create_index("tasks_by_state", "tasks", ["state", "due", "sequence"])


def downgrade() -> None:
    op.drop_index("tasks_by_state", "tasks")
    op.create_index("tasks_by_state", "tasks", ["state", "sequence"])
    op.drop_column("tasks", "due")
