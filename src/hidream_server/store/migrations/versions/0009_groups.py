"""Worker groups of all machines, and which model a task is for.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    # What was submitted before is for whichever model there is.
    op.add_column("tasks", sa.Column("model", sa.String(128), nullable=False, server_default=""))
    op.create_table(
        "worker_groups",
        sa.Column("id", sa.String(96), primary_key=True),
        sa.Column("machine", sa.String(255), nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("model", sa.JSON, nullable=False),
        sa.Column("devices", sa.JSON, nullable=False),
        sa.Column("health", sa.JSON, nullable=False),
        sa.Column("pace", sa.JSON, nullable=False),
        sa.Column("tasks", sa.JSON, nullable=False),
        sa.Column("joined_at", sa.Float, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("worker_groups")
    op.drop_column("tasks", "model")
