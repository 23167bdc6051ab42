"""API keys, the service's secrets, and what a key says of its tasks.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("revoked_at", sa.Float),
        sa.Column("max_queued", sa.Integer),
        sa.Column("max_running", sa.Integer),
        sa.Column("max_images_per_minute", sa.Integer),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.String(64), nullable=False),
    )
    op.add_column("tasks", sa.Column("weight", sa.Float, nullable=False, server_default="1"))
    op.add_column("tasks", sa.Column("max_running", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("tasks", "max_running")
    op.drop_column("tasks", "weight")
    op.drop_table("secrets")
    op.drop_table("api_keys")
