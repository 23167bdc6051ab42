"""What a submission is known again by, and how long pictures are kept.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for column in (
        sa.Column("digest", sa.String(64), nullable=False, server_default=""),
        sa.Column("request_key", sa.String(255)),
        sa.Column("request_index", sa.Integer, nullable=False, server_default="0"),
        sa.Column("picture_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("expired_at", sa.Float),
    ):
        op.add_column("tasks", column)
    op.create_index(
        "tasks_by_request", "tasks", ["client", "request_key", "request_index"], unique=True
    )
    op.create_index("tasks_by_client", "tasks", ["client", "created_at"])


def downgrade() -> None:
    op.drop_index("tasks_by_client", "tasks")
    op.drop_index("tasks_by_request", "tasks")
    for name in ("expired_at", "picture_bytes", "request_index", "request_key", "digest"):
        op.drop_column("tasks", name)
