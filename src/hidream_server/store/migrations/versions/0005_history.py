"""What happened to tasks.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "history",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("task_id", sa.String(36), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("about", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("history_by_task", "history", ["task_id", "number"])
    op.create_index("history_by_client", "history", ["client", "at"])


def downgrade() -> None:
    op.drop_table("history")
