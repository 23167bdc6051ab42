"""Tasks belong to clients, among which the work is shared out fairly.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("client", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("tasks", "client")
